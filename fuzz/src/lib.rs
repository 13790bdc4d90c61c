//! What the fuzz targets make of the fuzzer's bytes.
//!
//! The models are those of the property tests; only where their steps come from is different.

use std::ops::Bound;

use arbitrary::{Result, Unstructured};

/// Reads steps until the bytes are used up, at most `most`.
pub fn steps<T>(
    data: &[u8],
    most: usize,
    mut step: impl FnMut(&mut Unstructured<'_>) -> Result<T>,
) -> Vec<T> {
    let mut input = Unstructured::new(data);
    let mut steps = Vec::new();
    while !input.is_empty() && steps.len() < most {
        match step(&mut input) {
            Ok(step) => steps.push(step),
            Err(_) => break,
        }
    }
    steps
}

/// A place in a buffer: mostly within it, sometimes around its capacity, rarely absurd.
pub fn at(input: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match input.arbitrary::<u8>()? {
        n @ 0..=199 => usize::from(n % 40),
        n @ 200..=249 => 200 + usize::from(n - 200) * 130 / 50,
        250..=252 => usize::MAX,
        253 => usize::MAX / 2,
        _ => input.arbitrary::<u16>()?.into(),
    })
}

pub fn bound(input: &mut Unstructured<'_>) -> Result<Bound<usize>> {
    Ok(match input.int_in_range(0..=4)? {
        0 => Bound::Unbounded,
        1 | 2 => Bound::Included(at(input)?),
        _ => Bound::Excluded(at(input)?),
    })
}

/// Up to `most` bytes.
pub fn text(input: &mut Unstructured<'_>, most: usize) -> Result<Vec<u8>> {
    let len = input.int_in_range(0..=most)?;
    Ok(input.bytes(len.min(input.len()))?.to_vec())
}
