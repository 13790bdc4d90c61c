//! Invariant 2, no external fragmentation: a reservation parks only if `limit − live − stranded` has no room for its block.
//! Freeing everything of one size and asking for any other size succeeds.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/config.rs"]
mod config;
#[path = "support/machine.rs"]
mod machine;
#[path = "support/sizes.rs"]
mod sizes;
#[path = "support/starved.rs"]
mod starved;
#[path = "support/watchdog.rs"]
mod watchdog;

use futures::executor::block_on;
use futures::FutureExt;
use offheap::{DirectBytesMut, Pool};
use proptest::collection::vec;
use proptest::prelude::*;

use by_hand::ByHand;
use config::cases;
use machine::{Machine, Mix};
use sizes::sizes;
use watchdog::within;

const LIMIT: usize = 256 << 10;

fn pool(limit: usize) -> Pool {
    Pool::builder().limit(limit).build().unwrap()
}

/// As many buffers of `n` bytes as there is room for.
fn fill(pool: &Pool, n: usize) -> Vec<DirectBytesMut> {
    std::iter::from_fn(|| pool.try_reserve(n).ok()).collect()
}

proptest! {
    #![proptest_config(cases(1))]

    #[test]
    fn whoever_parks_has_a_reason(
        plan in Mix { cancel: 1, ..Mix::ALL }.plans(LIMIT, 60)
    ) {
        let mut machine = Machine::new(LIMIT);
        plan.iter().for_each(|op| machine.step(op));
        machine.finish();
    }

    /// Many blocks of few sizes: spans that are partly used are common here.
    #[test]
    fn whoever_parks_among_partly_used_spans_has_a_reason(
        plan in Mix { many: 15, share: 0, limit: 0, ..Mix::ALL }.plans(1500, 200)
    ) {
        let mut machine = Machine::new(16 << 10);
        plan.iter().for_each(|op| machine.step(op));
        machine.finish();
    }

    /// A pool that has been full of other sizes serves as many as a new one.
    #[test]
    fn any_size_after_any_other(before in vec(sizes(LIMIT), 1..4), n in sizes(LIMIT)) {
        let used = pool(LIMIT);
        for size in before {
            drop(fill(&used, size.max(1)));
        }
        let n = n.max(1);
        let (mine, new) = (fill(&used, n).len(), fill(&pool(LIMIT), n).len());
        prop_assert_eq!(mine, new, "buffers of {} bytes in {:?}", n, used.stats());
        prop_assert!(mine > 0);
    }
}

/// The largest block of all after the smallest, and the smallest after the largest, each with a waiter.
#[test]
fn everything_of_one_size_then_everything_of_another() {
    within(30, || {
        let limit = 4 << 20;
        let pool = pool(limit);
        for (first, second) in [
            (256, limit),
            (limit, 256),
            (5000, 16 << 10),
            (64 << 10, 300),
        ] {
            let full = fill(&pool, first);
            let mut waiter = Box::pin(pool.reserve(second));
            assert!(waiter.as_mut().now_or_never().is_none());
            drop(full);
            assert!(block_on(waiter).unwrap().capacity() >= second);
        }
    });
}

/// What partly used spans strand is of use to their own size.
#[test]
fn a_stranded_block_serves_its_own_size() {
    let limit = 64 << 10;
    let pool = pool(limit);
    let mut full = fill(&pool, 1024);
    drop(full.pop());
    let stats = pool.stats();
    assert_eq!((stats.queued, stats.stranded), (1024, 1024));
    assert!(pool.try_reserve(2048).is_err(), "of no use to another size");
    let mut waiter = ByHand::new(Box::pin(pool.reserve_owned(1024)));
    assert!(waiter.poll().is_ready());
}

#[test]
fn a_partly_used_span_strands_less_than_64_kib() {
    let pool = pool(16 << 20);
    for n in (1..40 << 10).step_by(97) {
        let _one = pool.try_reserve(n).unwrap();
        let stats = pool.stats();
        assert!(stats.stranded < 64 << 10, "{n}: {stats:?}");
        drop(_one);
        pool.trim();
    }
}

/// Eight blocks of 512 bytes fit into one page, but those that the waiter is given first lie in eight.
#[test]
fn reserve_many_is_not_stopped_by_its_own_fragments() {
    let limit = 16 << 12;
    let pool = pool(limit);
    // One block of each page comes back, then somebody wants nine of them and eight whole pages.
    let mut full: Vec<Option<DirectBytesMut>> = fill(&pool, 512).into_iter().map(Some).collect();
    assert_eq!(full.len(), 128);
    full.sort_by_key(|buffer| buffer.as_ref().map(|buffer| buffer.as_ptr()));
    full.iter_mut().step_by(8).for_each(|buffer| *buffer = None);
    let mut sizes = vec![512; 9];
    sizes.push(32 << 10);
    let served = within(10, move || {
        let mut waiter = Box::pin(pool.reserve_many(sizes));
        assert!(waiter.as_mut().now_or_never().is_none());
        drop(full);
        block_on(waiter).unwrap().len()
    });
    assert_eq!(served, 10);
}
