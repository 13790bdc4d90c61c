//! Streams of operations on a pool, beside a model of its books and of its queue.

#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use offheap_fuzz::steps;
use proptest::prelude::{any, Strategy};
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

#[path = "../../tests/support/by_hand.rs"]
mod by_hand;
#[allow(dead_code)]
#[path = "../../tests/support/machine.rs"]
mod machine;
#[path = "../../tests/support/sizes.rs"]
mod sizes;
#[path = "../../tests/support/starved.rs"]
mod starved;

use machine::{Machine, Op};

const LIMIT: usize = 64 * 4096;

thread_local! {
    static CONFIG: Config = Config::default();
}

/// Which of them: the models take it as proptest has it.
fn index(input: &mut Unstructured<'_>) -> Result<Index> {
    let bytes = input.arbitrary::<u16>()?.to_le_bytes();
    // An index is scaled down from the whole range, so its high bytes count.
    let seed = [0, 0, 0, 0, 0, 0, bytes[0], bytes[1]];
    let rng = TestRng::from_seed(RngAlgorithm::PassThrough, &seed);
    let mut runner = CONFIG.with(|config| TestRunner::new_with_rng(config.clone(), rng));
    let tree = any::<Index>().new_tree(&mut runner);
    Ok(tree.expect("an index is never rejected").current())
}

/// Sizes of all kinds, also at the borders of classes and close to the limit.
fn size(input: &mut Unstructured<'_>) -> Result<usize> {
    let base = match input.int_in_range(0..=9)? {
        0..=3 => return input.int_in_range(1..=300),
        4 | 5 => {
            let quarters = 4 + input.int_in_range(0..=3)?;
            (64 << input.int_in_range(0..=10)?) * quarters
        }
        6 => 4096,
        7 => LIMIT - 3 * 4096 * input.int_in_range(0..=1)?,
        8 => return input.int_in_range(0..=LIMIT),
        _ if input.ratio(1, 8)? => return Ok(*input.choose(&[0, usize::MAX, LIMIT + 1])?),
        _ => LIMIT / 4,
    };
    Ok(base + input.int_in_range(0..=2)? - 1)
}

fn step(input: &mut Unstructured<'_>) -> Result<Op> {
    Ok(match input.int_in_range(0..=24)? {
        0..=5 => Op::Reserve(size(input)?),
        6 | 7 => {
            let count = input.int_in_range(0..=5)?;
            let sizes = (0..count).map(|_| Ok(size(input)? / 4));
            Op::ReserveMany(sizes.collect::<Result<_>>()?)
        }
        8..=10 => Op::TryReserve(size(input)?),
        11..=16 => Op::Drop(index(input)?),
        17 => Op::Share(index(input)?),
        18 => Op::Cancel(index(input)?),
        19 => Op::DropThenCancel(index(input)?, index(input)?),
        20 | 21 => Op::SetLimit(input.int_in_range(0..=100)?),
        22 => Op::Trim,
        23 => Op::Poll(index(input)?),
        _ if input.ratio(1, 8)? => Op::Close,
        _ => Op::Trim,
    })
}

fuzz_target!(|data: &[u8]| {
    let mut machine = Machine::new(LIMIT);
    for op in steps(data, 200, step) {
        machine.step(&op);
    }
    machine.finish();
});
