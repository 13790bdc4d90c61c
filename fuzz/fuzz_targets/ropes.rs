//! Operations on `DirectRope` beside a queue of bytes.

#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use offheap_fuzz::{bound, steps, text};

#[allow(dead_code, unused_imports)]
#[path = "../../tests/rope.rs"]
mod rope;

use rope::{Op, TEXT};

fn step(input: &mut Unstructured<'_>) -> Result<(usize, Op)> {
    let which = input.arbitrary::<u8>()?.into();
    let at = offheap_fuzz::at;
    let op = match input.int_in_range(0..=18)? {
        0 => Op::PushBack(text(input, 20)?),
        1 => Op::PushFront(text(input, 20)?),
        2 => Op::PushStatic(input.int_in_range(0..=TEXT.len() - 1)?),
        3 => Op::PopBack,
        4 => Op::PopFront,
        5 => Op::Append(input.arbitrary::<u8>()?.into()),
        6 => Op::SplitTo(at(input)?),
        7 => Op::SplitOff(at(input)?),
        8 => Op::Truncate(at(input)?),
        9 => Op::Advance(at(input)?),
        10 => Op::Slice(bound(input)?, bound(input)?),
        11 => Op::CopyToBytes(at(input)?),
        12 => Op::CopyToSlice(at(input)?),
        13 => Op::Get(input.arbitrary()?),
        14 => Op::Read(input.int_in_range(0..=40)?),
        15 => Op::Contiguous,
        16 => Op::Clone,
        17 => Op::Clear,
        _ => Op::Drop,
    };
    Ok((which, op))
}

fuzz_target!(|data: &[u8]| rope::run(steps(data, 60, step)));
