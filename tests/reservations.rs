//! The ways to get memory, each with what it promises, and the errors with what they tell.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/config.rs"]
mod config;
#[path = "support/sizes.rs"]
mod sizes;
#[path = "support/starved.rs"]
mod starved;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::error::Error;
use std::future::{poll_fn, Future};
use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use futures::FutureExt;
use offheap::{DirectBytesMut, PollReserve, Pool, ReserveError, TryReserveError};
use proptest::collection::vec;
use proptest::prelude::*;

use by_hand::ByHand;
use config::cases;
use sizes::sizes;
use starved::starved;
use watchdog::within;

const LIMIT: usize = 256 << 10;
const PAGE: usize = 4096;

fn pool() -> Pool {
    Pool::builder().name("tested").limit(LIMIT).build().unwrap()
}

/// Leaves no byte of the pool's memory zero.
fn soil(pool: &Pool) {
    for n in [256, 300, 1000, 4096, 5000, 16 << 10, LIMIT] {
        let mut all = Vec::new();
        while let Ok(mut buffer) = pool.try_reserve(n) {
            buffer.resize(buffer.capacity(), 0xFF);
            all.push(buffer);
        }
    }
}

// ---- each way in ----------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(cases(2))]

    /// All or nothing: what is there at each moment is all of somebody's buffers, or none.
    #[test]
    fn reserve_many_is_all_or_nothing(
        before in vec(sizes(LIMIT / 8), 0..8),
        sizes in vec(prop_oneof![6 => sizes(LIMIT / 4), 1 => Just(0)], 0..6),
    ) {
        let (pool, _runtime) = starved(Pool::builder().limit(LIMIT));
        let mut held: Vec<_> = before.iter().flat_map(|&n| pool.try_reserve(n)).collect();
        let mut many = ByHand::new(Box::pin(pool.reserve_many(sizes.clone())));
        let mut done = many.poll();
        while done.is_pending() {
            // The last drop at the latest is enough.
            prop_assert!(held.pop().is_some(), "waits for nobody");
            if many.take_woken() {
                done = many.poll();
            }
        }
        match done {
            Poll::Ready(Ok(buffers)) => {
                prop_assert_eq!(buffers.len(), sizes.len());
                for (buffer, &n) in buffers.iter().zip(&sizes) {
                    prop_assert!(buffer.capacity() >= n && buffer.is_empty());
                    prop_assert_eq!(buffer.block_len() > 0, n > 0);
                }
            }
            Poll::Ready(Err(ReserveError::TooLarge { .. })) => {
                prop_assert!(sizes.iter().sum::<usize>() > LIMIT / 2);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn copies_are_equal(data in vec(any::<u8>(), 0..5000)) {
        let pool = pool();
        let copies = [
            pool.copy_from_slice(&data).now_or_never().unwrap()?,
            pool.try_copy_from_slice(&data)?,
        ];
        prop_assert_eq!(&copies[0], &data[..]);
        prop_assert_eq!(&copies[1], &data[..]);
        drop(copies);
        prop_assert_eq!(pool.stats().live, 0);
    }
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn reserve_zeroed_is_zero_also_where_others_wrote(sizes in vec(sizes(LIMIT), 1..8)) {
        let pool = pool();
        for n in sizes {
            soil(&pool);
            let mut buffer = pool.reserve_zeroed(n).now_or_never().unwrap()?;
            prop_assert_eq!(buffer.len(), n);
            prop_assert!(buffer.capacity() >= n);
            prop_assert!(buffer.iter().all(|&byte| byte == 0));
            buffer.fill(1);
        }
    }
}

#[test]
fn reserve_owned_is_a_future_for_tasks_and_fields() {
    within(30, || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let pool = pool();
            let all = pool.reserve_owned(LIMIT).await.unwrap();
            let reserve = pool.reserve_owned(1000);
            let task = tokio::spawn(reserve);
            while pool.stats().waiting == 0 {
                tokio::task::yield_now().await;
            }
            drop(all);
            assert!(task.await.unwrap().unwrap().capacity() >= 1000);
        });
    });
}

/// One place in the queue, and nobody behind it is served before all of it is there.
#[test]
fn reserve_many_keeps_its_turn() {
    let (pool, _runtime) = starved(Pool::builder().limit(LIMIT));
    let mut held: Vec<_> = (0..4)
        .map(|_| pool.try_reserve(LIMIT / 4).unwrap())
        .collect();
    let mut many = ByHand::new(Box::pin(pool.reserve_many([LIMIT / 4, LIMIT / 4])));
    let mut next = ByHand::new(Box::pin(pool.reserve(100)));
    assert!(many.poll().is_pending());
    assert!(next.poll().is_pending());
    held.pop();
    assert!(!next.take_woken());
    assert!(next.poll().is_pending(), "overtook a reservation of many");
    held.pop();
    assert!(many.take_woken());
    assert!(matches!(many.poll(), Poll::Ready(Ok(buffers)) if buffers.len() == 2));
    assert!(next.take_woken());
    assert!(next.poll().is_ready());
}

/// A reservation of many that does not fit now holds nothing while others use the pool.
#[test]
fn reserve_many_that_is_refused_takes_nothing() {
    let pool = pool();
    let held = pool.try_reserve(LIMIT / 2).unwrap();
    let mut many = ByHand::new(Box::pin(pool.reserve_many([
        LIMIT / 4,
        LIMIT / 4,
        LIMIT / 4,
    ])));
    assert!(many.poll().is_pending());
    drop(many);
    assert!(pool.try_reserve(LIMIT / 2).is_ok());
    assert_eq!(pool.stats().live, held.block_len() as u64);
}

#[test]
fn poll_reserve_again_and_again() {
    let (pool, _runtime) = starved(Pool::builder().limit(LIMIT));
    let waker = futures::task::noop_waker();
    let mut cx = Context::from_waker(&waker);
    let mut reserve = PollReserve::new(pool.clone());
    assert_eq!(reserve.pool().limit(), LIMIT);
    fn is_unpin<T: Unpin>(_: &T) {}
    is_unpin(&reserve);
    for n in [100, 0, 5000, LIMIT] {
        let Poll::Ready(Ok(buffer)) = reserve.poll_reserve(&mut cx, n) else {
            panic!("there is room for {n}");
        };
        assert!(buffer.capacity() >= n);
    }

    // While it waits it keeps its place. Another size is another reservation, at the end of the queue.
    let all = pool.try_reserve(LIMIT).unwrap();
    assert!(reserve.poll_reserve(&mut cx, LIMIT).is_pending());
    let mut other = ByHand::new(Box::pin(pool.reserve(LIMIT)));
    assert!(other.poll().is_pending());
    assert!(reserve.poll_reserve(&mut cx, LIMIT).is_pending());
    assert_eq!(pool.stats().waiting, 2);
    assert!(reserve.poll_reserve(&mut cx, LIMIT / 2).is_pending());
    assert_eq!(
        (pool.stats().waiting, pool.stats().waiting_bytes),
        (2, (LIMIT + LIMIT / 2) as u64)
    );
    drop(all);
    assert!(
        reserve.poll_reserve(&mut cx, LIMIT / 2).is_pending(),
        "it gave up its place"
    );
    let Poll::Ready(Ok(held)) = other.poll() else {
        panic!("the other was first");
    };
    drop(held);
    assert!(matches!(
        reserve.poll_reserve(&mut cx, LIMIT / 2),
        Poll::Ready(Ok(_))
    ));

    // A refusal is not the end.
    assert!(matches!(
        reserve.poll_reserve(&mut cx, LIMIT + 1),
        Poll::Ready(Err(ReserveError::TooLarge { .. }))
    ));
    assert!(matches!(
        reserve.poll_reserve(&mut cx, 1),
        Poll::Ready(Ok(_))
    ));
    let all = pool.try_reserve(LIMIT).unwrap();
    assert!(reserve.poll_reserve(&mut cx, 1).is_pending());
    reserve.cancel();
    assert_eq!(pool.stats().waiting, 0);
    reserve.cancel();
    drop((reserve, all));
    assert_eq!(pool.stats().live, 0);
}

/// From task to task: whoever polled last is woken.
#[test]
fn a_reservation_may_change_tasks() {
    let (pool, _runtime) = starved(Pool::builder().limit(LIMIT));
    let all = pool.try_reserve(LIMIT).unwrap();
    let mut reserve = Box::pin(pool.reserve(LIMIT));
    // With another waker each time.
    for _ in 0..3 {
        assert!(reserve.as_mut().now_or_never().is_none());
    }
    let mut first = ByHand::new(Box::pin(poll_fn(|cx| reserve.poll_unpin(cx).map(|_| ()))));
    assert!(first.poll().is_pending());
    let woken = {
        drop(all);
        first.take_woken()
    };
    assert!(woken);
    assert!(first.poll().is_ready());
}

#[test]
fn reserve_blocking_waits_on_plain_threads() {
    within(30, || {
        let pool = pool();
        let all = pool.reserve_blocking(LIMIT).unwrap();
        let waiter = thread::spawn({
            let pool = pool.clone();
            move || pool.reserve_blocking(5000).map(|buffer| buffer.capacity())
        });
        while pool.stats().waiting == 0 {
            thread::yield_now();
        }
        drop(all);
        assert!(waiter.join().unwrap().unwrap() >= 5000);

        // And is told when the pool closes.
        let all = pool.reserve_blocking(LIMIT).unwrap();
        let waiter = thread::spawn({
            let pool = pool.clone();
            move || pool.reserve_blocking(5000)
        });
        while pool.stats().waiting == 0 {
            thread::yield_now();
        }
        pool.close();
        assert!(matches!(
            waiter.join().unwrap(),
            Err(ReserveError::Closed { .. })
        ));
        drop(all);
    });
}

#[test]
fn reserve_blocking_panics_inside_a_runtime() {
    let message = |runtime: tokio::runtime::Runtime, pool: &Pool| {
        let panic = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async { drop(pool.reserve_blocking(1)) });
        }));
        *panic.unwrap_err().downcast::<String>().unwrap()
    };
    let pool = pool();
    let current = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    assert!(message(current, &pool).contains("from within a runtime"));
    let multi = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    assert!(message(multi, &pool).contains("from within a runtime"));
    assert_eq!(pool.stats().reserved_total, 0, "even where there is room");

    // `spawn_blocking` is the place for it, and so is a thread that merely knows a runtime.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime
        .block_on(runtime.spawn_blocking(move || drop(pool.reserve_blocking(1).unwrap())))
        .unwrap();
}

// ---- what is granted ------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(cases(2))]

    /// The whole class is usable, and wastes at most a fifth (of what is more than the smallest).
    #[test]
    fn capacity_is_the_class(n in sizes(LIMIT)) {
        let pool = Pool::builder().limit(64 << 20).build()?;
        let n = n.max(1);
        let buffer = pool.try_reserve(n)?;
        prop_assert!(buffer.is_empty() && buffer.capacity() >= n);
        prop_assert_eq!(buffer.capacity(), buffer.block_len());
        prop_assert!(n <= 256 || buffer.capacity() - n <= buffer.capacity() / 5);
    }

    /// For `O_DIRECT`: whole pages on whole pages.
    #[test]
    fn page_aligned_is_whole_pages_on_whole_pages(sizes in vec(sizes(LIMIT), 1..20)) {
        let pool = Pool::builder().limit(4 * LIMIT).page_aligned(true).build()?;
        let held: Vec<DirectBytesMut> = sizes.iter().flat_map(|&n| pool.try_reserve(n.max(1))).collect();
        for buffer in &held {
            prop_assert_eq!(buffer.as_ptr() as usize % 4096, 0);
            prop_assert_eq!(buffer.capacity() % 4096, 0);
            prop_assert_eq!(buffer.capacity(), buffer.block_len());
        }
    }
}

// ---- errors ---------------------------------------------------------------------------------------------------------

/// Pool, request, limit, and who holds the memory, in numbers that scripts can read and in such that people can.
#[test]
fn errors_say_why() {
    let pool = pool();
    let (held, line) = (pool.try_reserve(LIMIT).unwrap(), line!());
    let holder = format!("{}:{line}", file!());

    let exhausted = pool.try_reserve(20_000).unwrap_err();
    assert!(matches!(exhausted, TryReserveError::Exhausted { .. }));
    let text = exhausted.to_string();
    for part in [
        "\"tested\"",
        "20000 bytes (19.5 KiB)",
        "limit 262144 bytes (256 KiB)",
        "live 262144 bytes (256 KiB)",
        "queued 0 bytes",
        "waiting 0",
        &holder,
        "1 buffer,",
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    let refusal = exhausted.refusal();
    assert_eq!((&*refusal.pool, refusal.requested), ("tested", 20_000));
    assert_eq!((refusal.limit, refusal.live), (LIMIT as u64, LIMIT as u64));
    assert_eq!(refusal.holders[0].location.line(), line);

    let mut waiter = ByHand::new(Box::pin(pool.reserve(1)));
    assert!(waiter.poll().is_pending());
    let text = pool.try_reserve(1).unwrap_err().to_string();
    assert!(
        text.contains("1 byte:") && text.contains("waiting 1"),
        "{text}"
    );

    let too_large = pool.reserve(LIMIT + 1).now_or_never().unwrap().unwrap_err();
    assert!(matches!(too_large, ReserveError::TooLarge { .. }));
    let text = too_large.to_string();
    for part in [
        "\"tested\"",
        "262145 bytes",
        "the largest reservation",
        &holder,
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    assert_eq!(too_large.refusal().max_reserve, LIMIT as u64);

    pool.close();
    let Poll::Ready(Err(closed)) = waiter.poll() else {
        panic!("the pool is closed");
    };
    let text = closed.to_string();
    for part in ["\"tested\"", "1 byte:", "closed", &holder] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    drop(held);
    let text = pool.try_reserve(1).unwrap_err().to_string();
    assert!(
        text.contains("closed") && text.contains("live 0 bytes"),
        "{text}"
    );
    assert!(!text.contains("held by"), "{text}");
}

/// The three largest holders, largest first.
#[test]
fn errors_name_the_largest_holders() {
    let pool = pool();
    let _a = pool.try_reserve(1 << 10).unwrap();
    let _b: Vec<_> = (0..2)
        .map(|_| pool.try_reserve(64 << 10).unwrap())
        .collect();
    let _c = pool.try_reserve(16 << 10).unwrap();
    let _d = pool.try_reserve(32 << 10).unwrap();
    let error = pool.try_reserve(128 << 10).unwrap_err();
    let bytes: Vec<_> = error
        .refusal()
        .holders
        .iter()
        .map(|holder| holder.bytes >> 10)
        .collect();
    assert_eq!(bytes, [128, 32, 16]);
    assert!(
        error
            .to_string()
            .contains("2 buffers, 131072 bytes (128 KiB)"),
        "{error}"
    );
}

#[test]
fn errors_become_io_errors() {
    let pool = pool();
    let _all = pool.try_reserve(LIMIT).unwrap();
    let exhausted = io::Error::from(pool.try_reserve(1).unwrap_err());
    assert_eq!(exhausted.kind(), io::ErrorKind::OutOfMemory);
    assert!(exhausted.to_string().contains("\"tested\""), "{exhausted}");
    let source = exhausted
        .get_ref()
        .unwrap()
        .downcast_ref::<TryReserveError>();
    assert!(matches!(source, Some(TryReserveError::Exhausted { .. })));
    let too_large = pool.reserve(LIMIT + 1).now_or_never().unwrap().unwrap_err();
    assert!(too_large.source().is_none());
    assert_eq!(
        io::Error::from(too_large).kind(),
        io::ErrorKind::OutOfMemory
    );
    pool.close();
    let closed = pool.reserve(1).now_or_never().unwrap().unwrap_err();
    assert_eq!(io::Error::from(closed).kind(), io::ErrorKind::NotConnected);
}

/// The line that reserves is the caller's, whichever way it goes.
#[test]
fn holders_are_the_callers_lines() {
    let (pool, _runtime) = starved(Pool::builder().limit(LIMIT));
    let waker = futures::task::noop_waker();
    let mut cx = Context::from_waker(&waker);
    let mut poll_reserve = PollReserve::new(pool.clone());
    let first = line!() + 1;
    let tried = pool.try_reserve(1).unwrap();
    let blocked = pool.reserve_blocking(1).unwrap();
    let copied = pool.try_copy_from_slice(b"x").unwrap();
    let polled = poll_reserve.poll_reserve(&mut cx, 1);
    let reserve = pool.reserve(1);
    let owned = pool.reserve_owned(1);
    let zeroed = pool.reserve_zeroed(1);
    let many = pool.reserve_many([1]);
    let copy = pool.copy_from_slice(b"x");
    let last = line!() - 1;
    let held = (
        reserve.now_or_never().unwrap().unwrap(),
        owned.now_or_never().unwrap().unwrap(),
        zeroed.now_or_never().unwrap().unwrap(),
        many.now_or_never().unwrap().unwrap(),
        copy.now_or_never().unwrap().unwrap(),
    );
    let mut found: Vec<_> = pool
        .holders()
        .iter()
        .map(|holder| {
            assert_eq!((holder.location.file(), holder.count), (file!(), 1));
            holder.location.line()
        })
        .collect();
    found.sort_unstable();
    assert_eq!(found, (first..=last).collect::<Vec<_>>());
    drop((held, tried, blocked, copied, polled));
}

// ---- what is asked for -----------------------------------------------------------------------------------------------

#[tokio::test]
async fn reserve_gives_an_empty_buffer_of_at_least_the_size() {
    let pool = Pool::builder().limit(1 << 20).build().unwrap();
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

#[tokio::test]
async fn copies_wait_for_their_memory() {
    let pool = Pool::builder().limit(PAGE).build().unwrap();
    let copy = pool.copy_from_slice(b"hello").await.unwrap();
    assert_eq!(copy, b"hello"[..]);
    let mut second = ByHand::new(Box::pin(pool.copy_from_slice(&[1; PAGE])));
    assert!(second.poll().is_pending());
    drop(copy);
    assert!(matches!(second.poll(), Poll::Ready(Ok(copy)) if copy == [1; PAGE][..]));
    assert_eq!(pool.try_copy_from_slice(b"").unwrap().block_len(), 0);
}

/// On a closed pool `Closed` comes before all else, by every way in.
#[tokio::test]
async fn closed_comes_first() {
    let pool = Pool::builder().limit(PAGE).build().unwrap();
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
fn builders_refuse_what_can_not_be() {
    let text = |builder: offheap::PoolBuilder| builder.build().unwrap_err().to_string();
    assert!(text(Pool::builder()).contains("no limit"));
    assert!(text(Pool::builder().limit(2).max_limit(1)).contains("max_limit"));
    assert!(text(Pool::builder().limit(1).shards(0)).contains("shards"));
    assert!(text(Pool::builder().name("x").limit(1).shards(1 << 20)).contains("\"x\""));
}

/// Wakers are user code, and may do with the pool what they like: they run when no lock is held.
#[test]
fn wakers_may_use_the_pool() {
    struct Busy(Pool);
    impl Wake for Busy {
        fn wake(self: Arc<Self>) {
            self.0.trim();
            assert!(self.0.stats().committed <= self.0.limit() as u64);
            drop(self.0.try_reserve(PAGE));
            drop(self.0.reserve(2 * LIMIT).now_or_never());
        }
    }
    within(30, || {
        let (pool, _runtime) = starved(Pool::builder().limit(LIMIT));
        for size in [PAGE, LIMIT] {
            let held: Vec<_> = (0..LIMIT / size)
                .map(|_| pool.try_reserve(size).unwrap())
                .collect();
            let waker = Waker::from(Arc::new(Busy(pool.clone())));
            let mut cx = Context::from_waker(&waker);
            // Half of it and all of it, so that one is served from the other's leavings.
            let mut waiting: Vec<_> = [LIMIT / 2, LIMIT / 2, LIMIT]
                .map(|n| Box::pin(pool.reserve_owned(n)))
                .into();
            for wait in &mut waiting {
                assert!(wait.as_mut().poll(&mut cx).is_pending());
            }
            drop(held);
            for wait in waiting {
                drop(futures::executor::block_on(wait).unwrap());
            }
        }
        assert_eq!(pool.stats().live, 0);
    });
}

/// What can not be had does not cost others the memory that they would use again.
#[test]
fn a_hopeless_try_cleans_nothing() {
    let pool = pool();
    let held = pool.try_reserve(LIMIT / 2).unwrap();
    drop([PAGE; 8].map(|n| pool.try_reserve(n).unwrap()));
    let before = pool.stats();
    assert_eq!(before.queued, 8 * PAGE as u64);
    let hopeless = pool.try_reserve(LIMIT / 2 + PAGE);
    assert!(matches!(hopeless, Err(TryReserveError::Exhausted { .. })));
    let after = pool.stats();
    assert_eq!(after.queued, before.queued);
    assert_eq!(after.cleaned_bytes_total, before.cleaned_bytes_total);
    drop(held);
}

/// Blocks are counted when they are handed out, not when they are tried or granted and passed on.
#[test]
fn what_no_one_saw_is_not_counted() {
    let (pool, _runtime) = starved(Pool::builder().limit(4 * PAGE));
    let held = [PAGE; 3].map(|n| pool.try_reserve(n).unwrap());
    let mut many = ByHand::new(Box::pin(pool.reserve_many([PAGE, PAGE])));
    assert!(many.poll().is_pending());
    let mut one = ByHand::new(Box::pin(pool.reserve(PAGE)));
    assert!(one.poll().is_pending());
    drop(held);
    // Both were granted, and go away without a look at it.
    drop((many, one));
    let stats = pool.stats();
    assert_eq!((stats.reserved_total, stats.reclaimed_total), (3, 3));
    assert_eq!((stats.parked_total, stats.cancelled_total), (2, 2));
    assert_eq!(stats.live, 0);
}

/// A claim that can not come true any more gives back at once what it was granted so far.
#[test]
fn a_refused_claim_keeps_nothing() {
    let (pool, _runtime) = starved(Pool::builder().limit(4 * PAGE));
    let held = [PAGE; 4].map(|n| pool.try_reserve(n).unwrap());
    let mut many = ByHand::new(Box::pin(pool.reserve_many([PAGE; 3])));
    assert!(many.poll().is_pending());
    let mut held = held.into_iter();
    held.next();
    assert_eq!(
        pool.stats().live,
        4 * PAGE as u64,
        "granted so far, and live"
    );
    pool.set_limit(2 * PAGE).unwrap();
    assert!(many.take_woken());
    assert!(matches!(
        many.poll(),
        Poll::Ready(Err(ReserveError::TooLarge { .. }))
    ));
    drop(held);
    assert_eq!(pool.stats().live, 0);
}
