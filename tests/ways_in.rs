//! Each way to get memory, and the errors that say why there is none.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::task::{Context, Poll, Waker};
use std::thread;

use bytes::BufMut;
use offheap::{PollReserve, Pool, ReserveError, TryReserveError};

use by_hand::ByHand;
use watchdog::within;

const PAGE: usize = 4096;

fn pool(limit: usize) -> Pool {
    Pool::builder()
        .name("ingress")
        .limit(limit)
        .build()
        .unwrap()
}

#[tokio::test]
async fn reserve_gives_an_empty_buffer_of_at_least_the_size() {
    let pool = pool(1 << 20);
    for n in [1, 255, 256, 257, 1000, PAGE, PAGE + 1, 60_000, 1 << 20] {
        let buffer = pool.reserve(n).await.unwrap();
        assert!(buffer.is_empty() && buffer.capacity() >= n, "{n}");
        assert_eq!(
            buffer.capacity(),
            buffer.block_len(),
            "the whole class is usable"
        );
    }
}

#[tokio::test]
async fn reserve_owned_can_be_spawned() {
    let pool = pool(PAGE);
    let held = pool.try_reserve(PAGE).unwrap();
    let waiting = tokio::spawn(pool.reserve_owned(PAGE));
    drop(pool);
    drop(held);
    assert_eq!(waiting.await.unwrap().unwrap().capacity(), PAGE);
}

/// Also memory that others have written to.
#[tokio::test]
async fn reserve_zeroed_is_zero() {
    let pool = pool(64 << 10);
    for n in [1, 300, PAGE, 64 << 10] {
        let mut dirty = pool.reserve(n).await.unwrap();
        dirty.put_bytes(0xff, dirty.capacity());
        drop(dirty);
        let zeroed = pool.reserve_zeroed(n).await.unwrap();
        assert_eq!(zeroed.len(), n);
        assert!(zeroed.iter().all(|&byte| byte == 0), "{n}");
    }
}

#[tokio::test]
async fn reserve_many_is_all_or_nothing_and_in_order() {
    let pool = pool(64 << 10);
    let sizes = [0, 20_000, 1, 0, 300, 4096, 0];
    let buffers = pool.reserve_many(sizes).await.unwrap();
    assert_eq!(buffers.len(), sizes.len());
    for (buffer, n) in buffers.iter().zip(sizes) {
        assert!(
            buffer.capacity() >= n && (n > 0 || buffer.capacity() == 0),
            "{n}"
        );
    }
    let mut waiter = ByHand::new(Box::pin(pool.reserve_many([32 << 10, 16 << 10, 100])));
    assert!(waiter.poll().is_pending());
    assert_eq!(pool.stats().waiting, 1, "one place in the queue");
    drop(buffers);
    assert!(waiter.take_woken());
    let Poll::Ready(Ok(buffers)) = waiter.poll() else {
        panic!("not served")
    };
    assert_eq!(buffers.len(), 3);
    assert!(pool.reserve_many([]).await.unwrap().is_empty());
}

#[tokio::test]
async fn copies() {
    let pool = pool(PAGE);
    let copy = pool.copy_from_slice(b"hello").await.unwrap();
    assert_eq!(copy, b"hello"[..]);
    let mut second = ByHand::new(Box::pin(pool.copy_from_slice(&[1; PAGE])));
    assert!(second.poll().is_pending());
    drop(copy);
    assert!(matches!(second.poll(), Poll::Ready(Ok(copy)) if copy == [1; PAGE][..]));
    assert_eq!(pool.try_copy_from_slice(b"").unwrap().block_len(), 0);
}

#[test]
fn poll_reserve_is_used_again_and_again() {
    let pool = pool(PAGE);
    let mut reserve = PollReserve::new(pool.clone());
    let mut cx = Context::from_waker(Waker::noop());
    let mut poll = |reserve: &mut PollReserve, n| reserve.poll_reserve(&mut cx, n);
    let Poll::Ready(Ok(held)) = poll(&mut reserve, PAGE) else {
        panic!("there is room")
    };
    for _ in 0..3 {
        assert!(poll(&mut reserve, PAGE).is_pending());
    }
    assert_eq!(pool.stats().waiting, 1);
    // Another size is another reservation.
    assert!(poll(&mut reserve, 1).is_pending());
    assert_eq!((pool.stats().waiting, pool.stats().cancelled_total), (1, 1));
    reserve.cancel();
    assert_eq!(pool.stats().waiting, 0);
    assert!(poll(&mut reserve, PAGE).is_pending());
    drop(held);
    assert!(
        matches!(poll(&mut reserve, PAGE), Poll::Ready(Ok(buffer)) if buffer.capacity() == PAGE)
    );
    assert!(matches!(
        poll(&mut reserve, 2 * PAGE),
        Poll::Ready(Err(ReserveError::TooLarge { .. }))
    ));
}

#[test]
fn reserve_blocking_waits_on_a_thread() {
    within(60, || {
        let pool = pool(PAGE);
        let held = pool.reserve_blocking(PAGE).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| pool.reserve_blocking(1).unwrap().capacity());
            while pool.stats().waiting == 0 {
                thread::yield_now();
            }
            drop(held);
            assert!(waiter.join().unwrap() >= 1);
        });
    });
}

#[tokio::test]
async fn reserve_blocking_panics_where_blocking_is_forbidden() {
    let pool = pool(PAGE);
    let inside = tokio::spawn({
        let pool = pool.clone();
        async move { pool.reserve_blocking(1).map(drop) }
    });
    assert!(inside.await.unwrap_err().is_panic());
    let aside = tokio::task::spawn_blocking(move || pool.reserve_blocking(1).map(drop));
    assert!(aside.await.unwrap().is_ok());
}

/// An error says which pool, what was asked for, what there was, and who has it.
#[tokio::test]
async fn errors_answer_why() {
    let pool = pool(64 << 10);
    let held = pool.try_reserve(64 << 10).unwrap();
    let line = line!() - 1;
    let exhausted = pool.try_reserve(1000).unwrap_err();
    assert!(matches!(exhausted, TryReserveError::Exhausted { .. }));
    let text = exhausted.to_string();
    for part in [
        "\"ingress\"",
        "1000 bytes",
        "limit 65536 bytes (64 KiB)",
        "live 65536 bytes (64 KiB)",
        "queued 0 bytes",
        "waiting 0",
        &format!("{}:{line}:", file!()),
        "1 buffer",
    ] {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
    let too_large = pool.reserve(65_537).await.unwrap_err();
    assert!(matches!(too_large, ReserveError::TooLarge { .. }));
    assert_eq!(too_large.refusal().requested, 65_537);
    assert_eq!(too_large.refusal().max_reserve, 65_536);
    assert!(too_large.to_string().contains("65537 bytes (64.0 KiB)"));
    let mut waiter = ByHand::new(Box::pin(pool.reserve(1)));
    assert!(waiter.poll().is_pending());
    assert_eq!(pool.try_reserve(1).unwrap_err().refusal().waiting, 1);
    pool.close();
    assert!(matches!(
        waiter.poll(),
        Poll::Ready(Err(ReserveError::Closed { .. }))
    ));
    assert!(pool
        .reserve(1)
        .await
        .unwrap_err()
        .to_string()
        .contains("closed"));
    drop(held);
    let io: std::io::Error = pool.reserve(1).await.unwrap_err().into();
    assert_eq!(io.kind(), std::io::ErrorKind::NotConnected);
}

/// On a closed pool `Closed` comes before all else, by every way in.
#[tokio::test]
async fn closed_comes_first() {
    let pool = pool(PAGE);
    pool.close();
    for n in [0, 1, PAGE, usize::MAX] {
        assert!(
            matches!(pool.try_reserve(n), Err(TryReserveError::Closed { .. })),
            "{n}"
        );
        assert!(
            matches!(pool.reserve(n).await, Err(ReserveError::Closed { .. })),
            "{n}"
        );
        let many = pool.reserve_many([n]).await;
        assert!(matches!(many, Err(ReserveError::Closed { .. })), "{n}");
    }
    assert!(matches!(
        pool.copy_from_slice(b"").await,
        Err(ReserveError::Closed { .. })
    ));
}

#[test]
fn page_aligned_buffers_are_whole_pages() {
    let pool = Pool::builder()
        .limit(1 << 20)
        .page_aligned(true)
        .build()
        .unwrap();
    let buffers: Vec<_> = [1, 100, PAGE, PAGE + 1, 20_000, 33_000]
        .into_iter()
        .map(|n| pool.try_reserve(n).unwrap())
        .collect();
    for buffer in &buffers {
        assert_eq!(buffer.as_ptr() as usize % PAGE, 0);
        assert_eq!(buffer.capacity() % PAGE, 0);
    }
}

#[test]
fn builders_refuse_what_can_not_be() {
    let text = |builder: offheap::PoolBuilder| builder.build().unwrap_err().to_string();
    assert!(text(Pool::builder()).contains("no limit"));
    assert!(text(Pool::builder().limit(2).max_limit(1)).contains("max_limit"));
    assert!(text(Pool::builder().limit(1).shards(0)).contains("shards"));
    assert!(text(Pool::builder().name("x").limit(1).shards(1 << 20)).contains("\"x\""));
}
