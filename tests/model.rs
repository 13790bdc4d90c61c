//! The whole pool beside a model of it: every way to reserve, waiting and giving up, handles of all kinds with their contents, weak
//! ones, a soft cache, limits that change, trimming and closing, in any order, one thread, step by step.
//!
//! What the model knows is in `support/machine.rs` and `support/holdings.rs`. A plan that fails is shrunk, and its seed is kept in
//! `regressions/model.txt`, which is tried first from then on.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/machine.rs"]
mod machine;
#[path = "support/sizes.rs"]
mod sizes;
#[path = "support/starved.rs"]
mod starved;

use machine::{Machine, Mix, Op};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

fn run(limit: usize, plan: &[Op]) {
    let mut machine = Machine::new(limit);
    plan.iter().for_each(|op| machine.step(op));
    machine.finish();
}

fn cases(share: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig {
        cases: config.cases.div_ceil(share),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/regressions/model.txt",
        ))),
        ..config
    }
}

proptest! {
    #![proptest_config(cases(1))]

    /// As everything comes.
    #[test]
    fn in_any_order(plan in Mix { close: 1, ..Mix::ALL }.plans(256 << 10, 120)) {
        run(256 << 10, &plan);
    }

    /// A pool of five pages: nearly everyone waits.
    #[test]
    fn in_five_pages(plan in Mix { reserve: 40, ..Mix::ALL }.plans(20 << 10, 120)) {
        run(20 << 10, &plan);
    }

    /// Handles come and go faster than blocks: what is shared, split, weak and cached.
    #[test]
    fn with_many_handles(
        plan in Mix { share: 80, weak: 20, cache: 20, limit: 1, ..Mix::ALL }.plans(128 << 10, 200)
    ) {
        run(128 << 10, &plan);
    }
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn for_long(plan in Mix::ALL.plans(1 << 20, 2_000)) {
        run(1 << 20, &plan);
    }
}
