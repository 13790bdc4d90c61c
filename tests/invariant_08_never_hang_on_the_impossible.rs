//! Invariant 8, never hang on the impossible: `n > limit` fails at once; close fails every waiter; 0 bytes needs no memory.

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

use std::task::Poll;

use offheap::{parse_bytes, PollReserve, Pool, ReserveError, TryReserveError};
use proptest::collection::vec;
use proptest::prelude::*;

use by_hand::ByHand;
use config::cases;
use machine::{Machine, Mix};
use sizes::sizes;
use starved::starved;

const LIMIT: usize = 256 << 10;

fn pool(limit: usize) -> Pool {
    Pool::builder().limit(limit).build().unwrap()
}

proptest! {
    #![proptest_config(cases(1))]

    /// Limits fall and rise, and the pool is closed at some time.
    #[test]
    fn nobody_waits_for_what_can_not_come(
        plan in Mix { limit: 25, many: 15, close: 1, ..Mix::ALL }.plans(LIMIT, 60)
    ) {
        let mut machine = Machine::new(LIMIT);
        plan.iter().for_each(|op| machine.step(op));
        machine.finish();
    }

    /// An empty pool has an answer to everything, at once.
    #[test]
    fn an_empty_pool_lets_nobody_wait(
        max_limit in 0..LIMIT,
        percent in 0..=100_usize,
        n in prop_oneof![sizes(LIMIT), any::<usize>(), Just(usize::MAX), Just(0)],
        many in vec(prop_oneof![20 => sizes(LIMIT / 4), 2 => Just(0), 1 => any::<usize>()], 0..8),
    ) {
        let limit = max_limit / 100 * percent;
        let pool = Pool::builder().limit(max_limit).build()?;
        pool.set_limit(limit)?;
        let max = pool.max_reserve();
        prop_assert!(max <= limit);
        prop_assert_eq!(max == 0, limit < 4096);

        let fits = n <= max;
        match ByHand::new(Box::pin(pool.reserve(n))).poll() {
            Poll::Ready(Ok(buffer)) => prop_assert!(fits && buffer.capacity() >= n),
            Poll::Ready(Err(ReserveError::TooLarge { .. })) => prop_assert!(!fits),
            other => prop_assert!(false, "{:?}", other),
        }
        match pool.try_reserve(n) {
            Ok(buffer) => prop_assert!(fits && buffer.capacity() >= n),
            Err(TryReserveError::TooLarge { .. }) => prop_assert!(!fits),
            Err(other) => prop_assert!(false, "{}", other),
        }

        let mut future = ByHand::new(Box::pin(pool.reserve_many(many.clone())));
        match future.poll() {
            Poll::Ready(Ok(buffers)) => {
                prop_assert_eq!(buffers.len(), many.len());
                let live: usize = buffers.iter().map(|buffer| buffer.block_len()).sum();
                prop_assert!(live <= limit);
            }
            Poll::Ready(Err(ReserveError::TooLarge { .. })) => {
                // Four size classes per doubling waste 20 %, and a block of less than a page may have that to itself.
                let pages = many.iter().map(|n| n.div_ceil(4096).saturating_mul(2));
                let most = pages.fold(0, usize::saturating_add);
                prop_assert!(most > limit / 4096, "{:?} fit into {}", many, limit);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    /// What `max_reserve` says is so.
    #[test]
    fn max_reserve_is_the_largest_that_is_served(
        max_limit in 0..4 * LIMIT,
        percent in 0..=100_usize,
        page_aligned in any::<bool>(),
        part in 0.0..1.0,
    ) {
        let pool = Pool::builder().limit(max_limit).page_aligned(page_aligned).build()?;
        pool.set_limit(max_limit / 100 * percent)?;
        let max = pool.max_reserve();
        prop_assert!(pool.try_reserve(max).is_ok());
        let less = (max as f64 * part) as usize;
        prop_assert!(pool.try_reserve(less).is_ok(), "{} of {}", less, max);
        let more = pool.try_reserve(max + 1);
        let too_large = matches!(more, Err(TryReserveError::TooLarge { .. }));
        prop_assert!(too_large);
        // Half of the limit is always possible, but for rounding.
        prop_assert!(max + 4096 > pool.limit() / 2);
    }
}

#[test]
fn more_than_there_can_be_is_too_large_at_once() {
    let pool = pool(LIMIT);
    // Even while others wait.
    let all = pool.try_reserve(LIMIT).unwrap();
    let mut waiter = ByHand::new(Box::pin(pool.reserve(1)));
    assert!(waiter.poll().is_pending());
    for n in [LIMIT + 1, usize::MAX / 2, usize::MAX - 1, usize::MAX] {
        let too_large = |done| matches!(done, Poll::Ready(Err(ReserveError::TooLarge { .. })));
        assert!(too_large(ByHand::new(Box::pin(pool.reserve(n))).poll()));
        assert!(too_large(
            ByHand::new(Box::pin(pool.reserve_owned(n))).poll()
        ));
        assert!(too_large(
            ByHand::new(Box::pin(pool.reserve_zeroed(n))).poll()
        ));
        let mut many = ByHand::new(Box::pin(pool.reserve_many([1, n])));
        assert!(matches!(
            many.poll(),
            Poll::Ready(Err(ReserveError::TooLarge { .. }))
        ));
        assert!(matches!(
            pool.reserve_blocking(n),
            Err(ReserveError::TooLarge { .. })
        ));
        assert!(matches!(
            pool.try_reserve(n),
            Err(TryReserveError::TooLarge { .. })
        ));
        let mut again = PollReserve::new(pool.clone());
        let waker = futures::task::noop_waker();
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(too_large(again.poll_reserve(&mut cx, n)));
    }
    drop(all);
    assert!(waiter.take_woken());
}

/// Sizes whose sum is more than a number can hold.
#[test]
fn sizes_that_overflow_together_are_too_large() {
    let pool = pool(LIMIT);
    for sizes in [
        vec![usize::MAX, usize::MAX],
        vec![usize::MAX / 2 + 1, usize::MAX / 2 + 1, 5],
    ] {
        let mut many = ByHand::new(Box::pin(pool.reserve_many(sizes)));
        assert!(matches!(
            many.poll(),
            Poll::Ready(Err(ReserveError::TooLarge { .. }))
        ));
    }
}

/// Each is possible alone, and all together are not.
#[test]
fn too_large_together_is_too_large_at_once() {
    let pool = pool(LIMIT);
    let mut many = ByHand::new(Box::pin(pool.reserve_many([LIMIT / 2, LIMIT / 2, 1])));
    assert!(matches!(
        many.poll(),
        Poll::Ready(Err(ReserveError::TooLarge { .. }))
    ));
    let mut many = ByHand::new(Box::pin(pool.reserve_many([LIMIT / 2, LIMIT / 2, 0])));
    assert!(matches!(many.poll(), Poll::Ready(Ok(buffers)) if buffers.len() == 3));
}

#[test]
fn close_fails_every_waiter() {
    let (pool, _runtime) = starved(Pool::builder().limit(LIMIT));
    let all = pool.try_reserve(LIMIT).unwrap();
    let mut waiters: Vec<_> = (0..100)
        .map(|n| ByHand::new(Box::pin(pool.reserve(1 + n * 1000))))
        .collect();
    for waiter in &mut waiters {
        assert!(waiter.poll().is_pending());
    }
    let mut many = ByHand::new(Box::pin(pool.reserve_many([LIMIT / 2, 1])));
    assert!(many.poll().is_pending());
    pool.close();
    for waiter in &mut waiters {
        assert!(waiter.take_woken());
        assert!(matches!(
            waiter.poll(),
            Poll::Ready(Err(ReserveError::Closed { .. }))
        ));
    }
    assert!(many.take_woken());
    assert!(matches!(
        many.poll(),
        Poll::Ready(Err(ReserveError::Closed { .. }))
    ));
    assert_eq!(pool.stats().waiting, 0);
    drop(all);
}

#[test]
fn a_limit_that_makes_waiters_impossible_fails_them_wherever_they_stand() {
    let (pool, _runtime) = starved(Pool::builder().limit(LIMIT));
    let _all = pool.try_reserve(LIMIT).unwrap();
    // More than the pool wakes at a time, and each second one stays possible.
    let mut waiters: Vec<_> = (0..100)
        .map(|at| {
            ByHand::new(Box::pin(pool.reserve(if at % 2 == 0 {
                LIMIT
            } else {
                4096
            })))
        })
        .collect();
    for waiter in &mut waiters {
        assert!(waiter.poll().is_pending());
    }
    // Now the pool is in debt as well.
    pool.set_limit(LIMIT / 2).unwrap();
    for (at, waiter) in waiters.iter_mut().enumerate() {
        if at % 2 == 0 {
            assert!(waiter.take_woken(), "{at}");
            assert!(matches!(
                waiter.poll(),
                Poll::Ready(Err(ReserveError::TooLarge { .. }))
            ));
        } else {
            assert!(!waiter.take_woken(), "{at}");
        }
    }
    assert_eq!(pool.stats().waiting, 50);
}

#[test]
fn nothing_needs_no_memory() {
    for limit in [0, 1, 4095, LIMIT] {
        let pool = pool(limit);
        let held = pool.try_reserve(pool.max_reserve()).unwrap();
        let buffer = pool.try_reserve(0).unwrap();
        assert_eq!(
            (buffer.len(), buffer.capacity(), buffer.block_len()),
            (0, 0, 0)
        );
        // And waits for nobody.
        let mut waiter = ByHand::new(Box::pin(pool.reserve(1)));
        let waits = waiter.poll().is_pending();
        assert_eq!(waits, limit == LIMIT);
        let is_ok = |done| matches!(done, Poll::Ready(Ok(_)));
        assert!(is_ok(ByHand::new(Box::pin(pool.reserve(0))).poll()));
        assert!(is_ok(ByHand::new(Box::pin(pool.reserve_owned(0))).poll()));
        assert!(is_ok(ByHand::new(Box::pin(pool.reserve_zeroed(0))).poll()));
        assert!(pool.reserve_blocking(0).is_ok());
        assert!(pool.try_copy_from_slice(b"").unwrap().is_empty());
        drop((waiter, held));
        let stats = pool.stats();
        assert_eq!((stats.buffers, stats.live), (0, 0));
    }
}

#[test]
fn many_times_nothing_needs_no_memory() {
    for limit in [0, 1, 4095, LIMIT] {
        let pool = pool(limit);
        for count in [0, 1, 2, 40] {
            let mut many = ByHand::new(Box::pin(pool.reserve_many(vec![0; count])));
            match many.poll() {
                Poll::Ready(Ok(buffers)) => assert_eq!(buffers.len(), count),
                other => panic!("limit {limit}, {count} times nothing: {other:?}"),
            }
        }
    }
}

#[test]
fn a_limit_of_nothing_serves_nothing_else() {
    let pool = pool(0);
    assert_eq!((pool.limit(), pool.max_reserve()), (0, 0));
    let error = pool.try_reserve(1).unwrap_err();
    assert!(matches!(error, TryReserveError::TooLarge { .. }), "{error}");
    assert_eq!(pool.trim(), 0);
    pool.close();
    assert!(matches!(
        pool.try_reserve(0),
        Err(TryReserveError::Closed { .. })
    ));
}

#[test]
fn limits_that_no_machine_has_are_refused_with_a_reason() {
    for limit in [usize::MAX, usize::MAX / 2, 1 << 60] {
        let error = Pool::builder()
            .name("huge")
            .limit(limit)
            .build()
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("\"huge\"") && text.contains(&limit.to_string()),
            "{text}"
        );
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{text}");
    }
    let error = Pool::builder().name("none").build().unwrap_err();
    assert!(error.to_string().contains("no limit was given"), "{error}");
    let error = Pool::builder().limit(2).max_limit(1).build().unwrap_err();
    assert!(error.to_string().contains("above max_limit"), "{error}");
    for shards in [0, 1025, usize::MAX] {
        let error = Pool::builder().limit(1).shards(shards).build().unwrap_err();
        assert!(
            error.to_string().contains(&format!("{shards} shards")),
            "{error}"
        );
    }
}

#[test]
fn limit_texts() {
    assert_eq!(parse_bytes("0"), Ok(0));
    assert_eq!(parse_bytes("256MiB"), Ok(256 << 20));
    for (text, why) in [
        ("10kmt", "unit"),
        ("-1", "negative"),
        ("-1MiB", "negative"),
        ("", "whole number"),
        ("lots", "whole number"),
        ("1.5g", "unit"),
        ("18446744073709551616", "more than"),
        ("17179869184g", "more than"),
    ] {
        let error = parse_bytes(text).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{text:?}")) && error.contains(why),
            "{error}"
        );
        // And what would be right.
        assert!(error.contains("256MiB"), "{error}");
    }
}
