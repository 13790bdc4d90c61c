//! What the examples share: contents that can be checked, and an error for contents that are wrong.
//!
//! Each example runs a server and its clients on the loopback interface, moves pooled buffers through a network stack, checks every
//! byte and the pool's books, and fails where anything differs: `cargo run -p offheap-examples-net --example http`.

use std::error::Error;

use offheap::{DirectBytes, Pool};

/// What can go wrong, in any layer.
pub type Failure = Box<dyn Error + Send + Sync>;

/// `len` bytes that no other `seed` has.
pub fn pattern(seed: u64, len: usize) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    })
    .flatten()
    .take(len)
}

/// The [`pattern`] in the pool's memory.
///
/// # Errors
///
/// As for [`Pool::reserve`].
pub async fn pooled(pool: &Pool, seed: u64, len: usize) -> Result<DirectBytes, Failure> {
    let mut buffer = pool.reserve(len).await?;
    buffer.extend(pattern(seed, len));
    Ok(buffer.freeze())
}

/// Whether these are the bytes of the [`pattern`].
///
/// # Errors
///
/// Where they are not.
pub fn check(seed: u64, len: usize, received: impl IntoIterator<Item = u8>) -> Result<(), Failure> {
    if received.into_iter().eq(pattern(seed, len)) {
        Ok(())
    } else {
        Err(format!("what came back of message {seed} ({len} bytes) is not what was sent").into())
    }
}

/// Waits until the pool has all its memory back, and checks that the limit was kept.
///
/// # Errors
///
/// Where it was not.
pub async fn finish(pool: &Pool) -> Result<(), Failure> {
    pool.closed().await;
    let stats = pool.stats();
    println!(
        "{} buffers of pool {:?} went out and came back; at most {} bytes of {} were in use; {} reservations waited",
        stats.reserved_total,
        pool.name(),
        stats.peak_live,
        stats.limit,
        stats.parked_total
    );
    if stats.peak_live > stats.limit || stats.live > 0 {
        return Err(format!("the books are wrong: {stats:?}").into());
    }
    Ok(())
}
