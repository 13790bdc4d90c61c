//! The sizes that tests ask for.

use proptest::prelude::*;

/// Sizes of all kinds for a pool of `limit` bytes: small, at the borders of classes, round, and close to the limit.
pub(crate) fn sizes(limit: usize) -> impl Strategy<Value = usize> + Clone {
    let border = (0..32_u32, 0..4_usize, 0..3_usize).prop_map(move |(doubling, quarter, side)| {
        let base = 256_usize << (doubling % (limit.ilog2() - 7));
        (base + base / 4 * quarter + side - 1).min(limit)
    });
    prop_oneof![
        4 => 1..=300_usize,
        4 => border,
        2 => Just(4096_usize),
        2 => Just(16 << 10).prop_map(move |n: usize| n.min(limit)),
        1 => Just(64 << 10).prop_map(move |n: usize| n.min(limit)),
        1 => limit.saturating_sub(3 * 4096)..=limit,
        1 => limit / 4..=limit,
    ]
}
