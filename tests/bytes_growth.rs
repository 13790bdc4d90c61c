//! Growing: in place where that is possible, otherwise by a fair reservation; never from the heap; and nothing is lost on the way.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/counting.rs"]
mod counting;
#[path = "support/starved.rs"]
mod starved;

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures::FutureExt;
use offheap::{DirectBytesMut, Pool, ReserveError, TryReserveError};
use tokio::time::timeout;

use by_hand::ByHand;
use counting::allocations;
use starved::starved;

const KIB: usize = 1 << 10;

fn pool(limit: usize) -> Pool {
    Pool::builder()
        .name("growing")
        .limit(limit)
        .build()
        .unwrap()
}

fn filled(pool: &Pool, n: usize) -> DirectBytesMut {
    let mut buffer = pool.try_reserve(n).unwrap();
    let contents = (0..buffer.capacity()).map(|i| i as u8);
    buffer.extend(contents);
    buffer
}

fn is_filled(buffer: &[u8], len: usize) -> bool {
    buffer.len() == len && (0_usize..).zip(buffer).all(|(i, &byte)| byte == i as u8)
}

#[test]
fn try_reclaim_as_bytes_has_it() {
    let pool = pool(KIB << 10);
    let mut never = DirectBytesMut::new();
    assert!(!never.try_reclaim(6));
    assert!(never.try_reclaim(0));

    let mut buf = pool.try_reserve(256).unwrap();
    let cap = buf.capacity();
    assert!(buf.try_reclaim(cap));
    assert!(!buf.try_reclaim(cap + 1));
    assert!(!buf.try_reclaim(usize::MAX));

    let mut split = buf.split();
    drop(buf);
    assert_eq!(split.capacity(), 0);
    assert!(split.try_reclaim(6));
    assert!(split.try_reclaim(cap));
    assert!(!split.try_reclaim(cap + 1));
}

#[test]
fn try_reclaim_moves_what_is_no_longer_than_what_was_consumed() {
    let pool = pool(KIB << 10);
    let mut buf = filled(&pool, 256);
    let cap = buf.capacity();
    let start = buf.as_ptr();
    buf.advance(cap / 2 - 1);
    assert!(!buf.try_reclaim(1), "the contents would overlap");
    buf.advance(1);
    assert_eq!(buf.as_ptr() as usize - start as usize, cap / 2);
    assert!(!buf.try_reclaim(cap / 2 + 1));
    assert!(buf.try_reclaim(cap / 2));
    assert_eq!((buf.as_ptr(), buf.capacity()), (start, cap));
    assert!(buf.iter().copied().eq((cap / 2..cap).map(|i| i as u8)));
}

#[test]
fn try_reclaim_waits_for_the_other_handles() {
    let pool = pool(KIB << 10);
    let mut buf = pool.try_reserve(256).unwrap();
    let cap = buf.capacity();
    buf.put_slice(b"abc");
    let x = buf.split().freeze();
    buf.put_slice(b"def");
    let y = buf.split().freeze();
    let z = y.clone();
    assert!(!buf.try_reclaim(cap));
    drop((x, z));
    assert!(!buf.try_reclaim(cap));
    drop(y);
    assert!(buf.try_reclaim(cap));
    assert_eq!((buf.capacity(), buf.len()), (cap, 0));
    buf.put_bytes(1, cap);
    buf.advance(cap - 2);
    assert!(buf.try_reclaim(cap - 2));
}

/// As a codec does it: the same block serves for ever as long as frames come and go.
#[test]
fn a_reader_that_consumes_all_starts_over() {
    let (pool, _runtime) = starved(Pool::builder().limit(64 * KIB));
    let mut buf = pool.try_reserve(4 * KIB).unwrap();
    let start = buf.as_ptr();
    for round in 0..100_u8 {
        assert!(buf.try_reclaim(4 * KIB));
        buf.put_bytes(round, 4 * KIB);
        let frame = buf.split().freeze();
        assert_eq!((frame.as_ptr(), frame[17]), (start, round));
    }
    assert_eq!(pool.stats().reserved_total, 1);
}

#[tokio::test]
async fn grows_in_place_where_the_block_suffices() {
    let pool = pool(8 * KIB);
    let mut buf = pool.reserve(8 * KIB).await.unwrap();
    buf.put_bytes(7, 8 * KIB);
    // More than half is left, so that the contents overlap where they move: growing does it all the same.
    buf.advance(100);
    buf.grow(100).await.unwrap();
    assert_eq!((buf.len(), buf.capacity()), (8 * KIB - 100, 8 * KIB));
    assert!(buf.iter().all(|&byte| byte == 7));
    assert_eq!(pool.stats().reserved_total, 1);

    let back = buf.split_off(4 * KIB);
    drop(back);
    assert_eq!(buf.capacity(), 4 * KIB);
    buf.try_grow(4 * KIB).unwrap();
    assert_eq!(buf.capacity(), 8 * KIB);
    assert_eq!(pool.stats().reserved_total, 1);
}

#[tokio::test]
async fn grows_into_a_larger_block_and_gives_the_smaller_back() {
    let pool = pool(KIB << 10);
    let mut buf = filled(&pool, 1000);
    let len = buf.len();
    buf.grow(0).await.unwrap();
    assert_eq!(pool.stats().reserved_total, 1);
    buf.grow(1).await.unwrap();
    assert!(buf.capacity() > len && is_filled(&buf, len));
    let (line, grow) = (line!(), buf.grow(100_000));
    grow.await.unwrap();
    assert!(buf.remaining_mut() >= 100_000 && is_filled(&buf, len));
    let stats = pool.stats();
    assert_eq!((stats.buffers, stats.live), (1, buf.block_len() as u64));
    assert_eq!(stats.requested, len as u64 + 100_000);
    assert_eq!(pool.holders()[0].location.line(), line);
}

#[test]
fn grows_out_of_a_block_that_others_share() {
    let pool = pool(KIB << 10);
    let mut buf = filled(&pool, 256);
    let rest = buf.split_off(100);
    buf.try_grow(1).unwrap();
    assert!(is_filled(&buf, 100) && buf.remaining_mut() >= 1);
    assert_eq!(pool.stats().buffers, 2);
    drop(rest);
    assert_eq!(pool.stats().buffers, 1);
}

#[tokio::test]
async fn growing_waits_its_turn() {
    let pool = pool(16 * KIB);
    let mut buf = filled(&pool, 4 * KIB);
    let hog = pool.try_reserve(8 * KIB).unwrap();
    let mut first = ByHand::new(Box::pin(pool.reserve(8 * KIB)));
    assert!(first.poll().is_pending());
    {
        let mut grow = ByHand::new(Box::pin(buf.grow(KIB)));
        assert!(
            grow.poll().is_pending(),
            "there are 4 KiB, and someone is ahead"
        );
        assert_eq!(pool.stats().waiting, 2);
        drop(hog);
        assert!(
            grow.poll().is_pending(),
            "whoever came first is served first"
        );
        assert!(first.poll().is_ready());
        drop(first);
        assert!(grow.poll().is_ready());
    }
    assert!(is_filled(&buf, 4 * KIB) && buf.remaining_mut() >= KIB);
}

#[tokio::test]
async fn a_cancelled_growth_loses_nothing() {
    let pool = pool(16 * KIB);
    let mut buf = filled(&pool, 4 * KIB);
    let hog = pool.try_reserve(8 * KIB).unwrap();
    for _ in 0..3 {
        let waited = timeout(Duration::from_millis(1), buf.grow(4 * KIB)).await;
        assert!(waited.is_err());
        assert!(is_filled(&buf, 4 * KIB));
        assert_eq!((pool.stats().waiting, pool.stats().buffers), (0, 2));
    }
    // After the grant, and before the next poll.
    let mut grow = ByHand::new(Box::pin(buf.grow(4 * KIB)));
    assert!(grow.poll().is_pending());
    drop(hog);
    drop(grow);
    assert!(is_filled(&buf, 4 * KIB));
    assert_eq!((pool.stats().waiting, pool.stats().buffers), (0, 1));
    buf.grow(4 * KIB).await.unwrap();
    assert!(is_filled(&buf, 4 * KIB) && buf.capacity() >= 8 * KIB);
}

#[tokio::test]
async fn never_waits_for_room_that_can_not_be() {
    let pool = pool(16 * KIB);
    let mut buf = filled(&pool, 8 * KIB);
    // 8 KiB are held, and 8 more are all that the limit has room for beside them.
    let error = buf.grow(KIB).await.unwrap_err();
    assert!(matches!(error, ReserveError::TooLarge { .. }), "{error}");
    assert_eq!(error.refusal().max_reserve, 8 * KIB as u64);
    assert_eq!(&*error.refusal().pool, "growing");
    let error = buf.try_grow(KIB).unwrap_err();
    assert!(matches!(error, TryReserveError::TooLarge { .. }), "{error}");
    for additional in [usize::MAX, usize::MAX - 8 * KIB, 1 << 40] {
        let error = buf.grow(additional).await.unwrap_err();
        assert!(matches!(error, ReserveError::TooLarge { .. }), "{error}");
    }
    assert!(is_filled(&buf, 8 * KIB));
}

#[tokio::test]
async fn a_limit_that_is_lowered_meanwhile_fails_the_growth() {
    let pool = pool(32 * KIB);
    let mut buf = filled(&pool, 8 * KIB);
    let _hog = pool.try_reserve(16 * KIB).unwrap();
    let mut grow = ByHand::new(Box::pin(buf.grow(4 * KIB)));
    assert!(grow.poll().is_pending());
    pool.set_limit(16 * KIB).unwrap();
    // Alone, 12 KiB still fit; beside the 8 KiB that are held they never will.
    let done = grow.poll();
    drop(grow);
    assert!(matches!(
        done,
        std::task::Poll::Ready(Err(ReserveError::TooLarge { .. }))
    ));
    assert!(is_filled(&buf, 8 * KIB));
}

#[tokio::test]
async fn growing_fails_when_the_pool_is_closed_or_gone() {
    let pool = pool(KIB << 10);
    let mut buf = filled(&pool, 4 * KIB);
    pool.close();
    let error = buf.grow(KIB).await.unwrap_err();
    assert!(matches!(error, ReserveError::Closed { .. }), "{error}");
    drop(pool);
    let error = buf.grow(KIB).await.unwrap_err();
    assert!(matches!(error, ReserveError::Closed { .. }), "{error}");
    assert_eq!(&*error.refusal().pool, "growing");
    let error = buf.try_grow(KIB).unwrap_err();
    assert!(matches!(error, TryReserveError::Closed { .. }), "{error}");
    assert!(is_filled(&buf, 4 * KIB));
}

/// The last handle to the pool goes while a buffer waits to grow.
#[tokio::test]
async fn growing_does_not_outlive_the_pool() {
    let pool = pool(16 * KIB);
    let mut buf = filled(&pool, 4 * KIB);
    let _hog = pool.try_reserve(8 * KIB).unwrap();
    let mut grow = ByHand::new(Box::pin(buf.grow(4 * KIB)));
    assert!(grow.poll().is_pending());
    drop(pool);
    let done = grow.poll();
    assert!(matches!(
        done,
        std::task::Poll::Ready(Err(ReserveError::Closed { .. }))
    ));
    drop(grow);
    assert!(is_filled(&buf, 4 * KIB));
}

#[tokio::test]
async fn a_buffer_without_memory_can_not_grow() {
    let mut never = DirectBytesMut::new();
    never.grow(0).await.unwrap();
    never.try_grow(0).unwrap();
    let error = never.grow(100).await.unwrap_err();
    assert!(matches!(error, ReserveError::NoPool { .. }));
    assert!(error.to_string().contains("100 bytes"), "{error}");
    let error = never.try_grow(100).unwrap_err();
    assert!(matches!(error, TryReserveError::NoPool { .. }));
    assert!(error.to_string().contains("no pool"), "{error}");
    assert_eq!(
        std::io::Error::from(error).kind(),
        std::io::ErrorKind::InvalidInput
    );
}

/// A small block grows into another of its own span, though the limit is one page.
#[test]
fn grows_within_a_single_page() {
    let pool = pool(4 * KIB);
    let mut buf = filled(&pool, 256);
    let _rest = buf.split_off(100);
    buf.try_grow(100).unwrap();
    assert!(is_filled(&buf, 100));
    let mut other = buf.split_off(50);
    other.grow(150).now_or_never().unwrap().unwrap();
}

#[test]
fn growing_takes_nothing_from_the_heap() {
    let (pool, _runtime) = starved(Pool::builder().limit(KIB << 10));
    let sizes = [256, 1000, 5000, 20_000, 100_000];
    let grow = |wait: bool| {
        let mut buf = pool.try_reserve(sizes[0]).unwrap();
        for n in sizes {
            buf.put_bytes(1, buf.remaining_mut());
            if wait {
                buf.grow(n).now_or_never().unwrap().unwrap();
            } else {
                buf.try_grow(n).unwrap();
            }
        }
        buf.len()
    };
    for wait in [true, false] {
        // The first time, classes that were never used make their magazines.
        grow(wait);
        let (count, len) = allocations(|| grow(wait));
        assert_eq!(count, 0);
        assert!(len > 20_000);
    }
}

/// Byte by byte, and what it costs is that of a vector: a constant for each byte.
#[test]
fn growing_little_by_little_copies_little() {
    let pool = pool(16 << 20);
    let (mut ours, mut theirs) = (pool.try_reserve(256).unwrap(), BytesMut::new());
    let mut moved = 0;
    for i in 0..1_000_000_u32 {
        let before = ours.as_ptr();
        ours.try_grow(1).unwrap();
        if ours.as_ptr() != before {
            moved += ours.len();
        }
        ours.put_u8(i as u8);
        theirs.put_u8(i as u8);
    }
    assert_eq!(ours, theirs);
    assert!(moved < 8_000_000, "{moved} bytes were moved");
}
