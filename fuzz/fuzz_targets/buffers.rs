//! Operations on `DirectBytes` and `DirectBytesMut` beside `Bytes` and `BytesMut`.

#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use offheap_fuzz::{at, bound, steps, text};

#[allow(dead_code, unused_imports)]
#[path = "../../tests/bytes_model.rs"]
mod bytes_model;

use bytes_model::{Op, TEXT};

fn step(input: &mut Unstructured<'_>) -> Result<(usize, Op)> {
    let which = input.arbitrary::<u8>()?.into();
    let some = |input: &mut Unstructured<'_>| {
        let most = if input.ratio(1, 8)? { 330 } else { 40 };
        text(input, most)
    };
    let op = match input.int_in_range(0..=36)? {
        0 | 1 => Op::Reserve(input.int_in_range(1..=400)?, text(input, 60)?),
        2 => Op::Static(input.int_in_range(0..=TEXT.len() - 1)?),
        3 => Op::SplitTo(at(input)?),
        4 => Op::SplitOff(at(input)?),
        5 => Op::Split,
        6 | 7 => Op::Unsplit(input.arbitrary::<u8>()?.into(), input.arbitrary()?),
        8 => Op::TryReclaim(at(input)?),
        9 => Op::TryGrow(at(input)?),
        10 => Op::Truncate(at(input)?),
        11 => Op::Advance(at(input)?),
        12 => Op::Clear,
        13 => Op::Resize(at(input)?, input.arbitrary()?),
        14 => Op::SetLen(at(input)?, input.arbitrary()?),
        15 => Op::Extend(input.arbitrary()?, some(input)?),
        16 => Op::ExtendFromWithin(bound(input)?, bound(input)?),
        17 => Op::Put(input.arbitrary()?, some(input)?),
        18 => Op::PutBytes(input.arbitrary()?, at(input)?),
        19 => Op::TryPut(input.arbitrary()?, some(input)?),
        20 => Op::Write(some(input)?),
        21 => Op::WriteText(String::from_utf8_lossy(&text(input, 9)?).into_owned()),
        22 => Op::Overwrite(input.arbitrary()?),
        23 => Op::Get(input.arbitrary()?, at(input)?),
        24 => Op::Read(input.int_in_range(0..=50)?),
        25 => Op::CopyToBytes(at(input)?),
        26 => Op::Freeze,
        27 => Op::Slice(bound(input)?, bound(input)?),
        28 => Op::SliceRef(
            input.arbitrary::<u8>()?.into(),
            input.int_in_range(0..=40)?,
            input.int_in_range(0..=40)?,
        ),
        29 => Op::SliceOrDetach(bound(input)?, bound(input)?, input.int_in_range(0..=40)?),
        30 => Op::Clone,
        31 => Op::TryIntoMut,
        32 => Op::IntoBytes,
        33 => Op::IntoVec,
        34 => Op::IntoIter(input.int_in_range(0..=9)?),
        35 => Op::Detach,
        _ => Op::Drop,
    };
    Ok((which, op))
}

fuzz_target!(|data: &[u8]| bytes_model::run(steps(data, 60, step)));
