//! Parking and handing over: what it costs to join the queue, and what a drop does for the one at its head.
//!
//! Everything is held, and as many reservations as there are buffers wait. Then every buffer is dropped, each of which serves one of
//! them, and what was granted is collected. Futures are polled by hand with a waker that does nothing, so that no scheduler is part of
//! it. [`rounds`] is the same within a runtime, with all that belongs to it.

use std::future::Future;
use std::hint::black_box;
use std::pin::{pin, Pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::on_worker;
use crate::peers::{Failed, Lease, Limited};

/// Nanoseconds of each step, per reservation.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    /// The first poll of a reservation, which joins the queue.
    pub park: f64,
    /// A drop, which serves the head of the queue.
    pub drop: f64,
    /// The poll that collects what was granted.
    pub collect: f64,
}

impl Steps {
    /// A hand-over from beginning to end.
    pub fn sum(&self) -> f64 {
        self.park + self.drop + self.collect
    }
}

/// What a peer has to be built with.
pub fn limit(size: usize, waiters: usize) -> usize {
    size * waiters
}

/// All buffers of a peer that has room for so many, written to.
pub fn take_all<P: Limited>(peer: &P, size: usize, waiters: usize) -> Vec<P::Lease> {
    let take = |_| {
        let mut lease = peer.try_take(size);
        lease.touch();
        lease
    };
    (0..waiters).map(take).collect()
}

/// Hands all buffers over, to as many reservations as there are.
///
/// # Panics
///
/// If there is room left, or a drop does not serve anyone.
pub fn hand_over<P: Limited>(peer: &P, size: usize, held: &mut Vec<P::Lease>) -> Steps {
    let waiters = held.len();
    let mut context = Context::from_waker(Waker::noop());
    let mut reservations: Vec<_> = (0..waiters).map(|_| Box::pin(peer.take(size))).collect();

    let start = Instant::now();
    for reservation in &mut reservations {
        assert!(reservation.as_mut().poll(&mut context).is_pending());
    }
    let park = start.elapsed();

    let start = Instant::now();
    held.drain(..).for_each(drop);
    let drop = start.elapsed();

    let start = Instant::now();
    for reservation in &mut reservations {
        held.push(granted(reservation.as_mut(), &mut context));
    }
    let collect = start.elapsed();

    held.iter_mut().for_each(Lease::touch);
    let each = |time: Duration| time.as_nanos() as f64 / waiters as f64;
    Steps {
        park: each(park),
        drop: each(drop),
        collect: each(collect),
    }
}

fn granted<L>(
    reservation: Pin<&mut impl Future<Output = Result<L, Failed>>>,
    context: &mut Context<'_>,
) -> L {
    match reservation.poll(context) {
        Poll::Ready(Ok(lease)) => lease,
        _ => panic!("every drop serves someone"),
    }
}

/// Nanoseconds of the first poll of a reservation that finds nobody waiting and nothing to be had, without the clock's own. Then it
/// gives up, and the next one comes, `times` times. Someone else holds everything meanwhile.
pub fn first_in_queue<P: Limited>(peer: &P, size: usize, times: u32) -> f64 {
    let mut context = Context::from_waker(Waker::noop());
    let (mut polls, mut nothing) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..times {
        let mut reservation = pin!(peer.take(size));
        let start = Instant::now();
        let poll = reservation.as_mut().poll(&mut context);
        polls += start.elapsed();
        assert!(poll.is_pending());

        let start = Instant::now();
        black_box(&mut context);
        nothing += start.elapsed();
    }
    polls.saturating_sub(nothing).as_nanos() as f64 / f64::from(times)
}

/// Nanoseconds per hand-over in the runtime that this runs in, which has one worker: one buffer goes round so many tasks, so many
/// times.
pub async fn rounds<P: Limited>(peer: P, size: usize, tasks: usize, rounds: usize) -> f64 {
    on_worker(async move {
        let mut first = peer.try_take(size);
        first.touch();
        let begun: &'static AtomicUsize = Box::leak(Box::default());
        let go_round = |peer: P| async move {
            begun.fetch_add(1, Ordering::Relaxed);
            for _ in 0..rounds {
                let mut lease = peer.take(size).await.expect("memory");
                lease.touch();
            }
        };
        let tasks: Vec<_> = (0..tasks)
            .map(|_| tokio::spawn(go_round(peer.clone())))
            .collect();
        // On one worker whoever has begun waits.
        while begun.load(Ordering::Relaxed) < tasks.len() {
            tokio::task::yield_now().await;
        }
        let hand_overs = tasks.len() * rounds;
        let start = Instant::now();
        drop(first);
        for task in tasks {
            task.await.expect("no panic");
        }
        start.elapsed().as_nanos() as f64 / hand_overs as f64
    })
    .await
}
