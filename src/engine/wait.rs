//! One reservation, from its first poll to its block.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::claim::Claim;
use super::{Engine, Refused, State};
use crate::arena::Handle;
use crate::budget::{Node, Status, WakeList};
use crate::sync::{lock, Ordering};

/// One in so many parked reservations looks at the time. It costs more than all the rest of parking.
const CLOCK_EVERY: u64 = 64;

/// Whatever leads to an engine and keeps it alive.
pub(crate) trait HasEngine {
    fn engine(&self) -> &Engine;
}

impl<T: HasEngine + ?Sized> HasEngine for &T {
    #[inline]
    fn engine(&self) -> &Engine {
        (**self).engine()
    }
}

impl HasEngine for Handle {
    fn engine(&self) -> &Engine {
        Engine::of(self)
    }
}

/// A reservation that may wait. Holds its place in the queue from the first poll until it is done or dropped.
#[derive(Debug)]
pub(crate) struct Wait<P: HasEngine> {
    pool: P,
    node: Node<Claim>,
    #[cfg(feature = "tracing")]
    trace: super::trace::Trace,
}

impl<P: HasEngine> Wait<P> {
    #[inline]
    pub(crate) fn new(pool: P, claim: Claim) -> Self {
        Wait {
            pool,
            node: Node::new(claim),
            #[cfg(feature = "tracing")]
            trace: Default::default(),
        }
    }

    pub(crate) fn pool(&self) -> &P {
        &self.pool
    }

    /// Changes what is asked for. Only before the first poll and after the last; a place in the queue is given up.
    pub(crate) fn ask(self: Pin<&mut Self>, next: Claim) {
        self.cancel();
        // SAFETY: `cancel` took the node out of the queue.
        unsafe { self.node.payload(|claim| *claim = next) };
    }

    /// How much is asked for. Not while the reservation stands in the queue.
    pub(crate) fn asked(&self) -> u64 {
        // SAFETY: callers ask before the first poll or after the last.
        unsafe { self.node.payload(|claim| claim.bytes()) }
    }

    /// Waits for the grants and passes each to `f`, in order.
    #[inline]
    pub(crate) fn poll(
        self: Pin<&Self>,
        cx: &mut Context<'_>,
        f: impl FnMut(Option<Handle>),
    ) -> Poll<Result<(), Refused>> {
        let engine = self.pool.engine();
        let node = &self.node;
        let parked = match node.status() {
            Status::Idle => {
                // SAFETY: an idle node is its owner's.
                let (denied, ready) = unsafe {
                    node.payload(|claim| match engine.denies(claim) {
                        true => (true, Err(Refused::Full)),
                        false => (false, engine.obtain_claim(claim)),
                    })
                };
                match ready {
                    Err(Refused::Full) => self.park(cx.waker(), denied),
                    Err(refused) => return Poll::Ready(Err(refused)),
                    Ok(()) => false,
                }
            }
            Status::Waiting => {
                engine.rejoin(node, cx.waker());
                true
            }
            Status::Done => true,
        };
        if node.status() == Status::Waiting {
            return Poll::Pending;
        }
        if parked {
            self.waited();
            engine.pass_soft_news();
        }
        // SAFETY: not waiting, so the payload is ours again.
        let done = unsafe {
            node.reset();
            node.payload(|claim| match claim.take_refusal() {
                Some(refused) => {
                    claim.release();
                    Err(refused)
                }
                None => {
                    claim.hand_out(f);
                    Ok(())
                }
            })
        };
        Poll::Ready(done)
    }

    /// Joins the queue; answers whether it had to wait there. It may be done when this returns. `denied`: though there may be memory.
    #[cold]
    fn park(&self, waker: &Waker, denied: bool) -> bool {
        let engine = self.pool.engine();
        #[cfg(feature = "tracing")]
        let bytes = self.asked();
        let position = engine.join(&self.node, waker.clone(), denied);
        if position == Some(1) && engine.looks_again() {
            // After others had a turn, the reclaimer among them.
            waker.wake_by_ref();
        }
        #[cfg(feature = "tracing")]
        if let Some(position) = position {
            self.trace.parked(engine, bytes, position);
        }
        if denied {
            // Called, because nobody else will do it, and the reclaimer in case that it does not come.
            waker.wake_by_ref();
            engine.bell().ring();
        }
        position.is_some()
    }

    #[cfg(not(feature = "_waits"))]
    fn waited(&self) {}

    /// Notes how long it took. The node parked, and is done.
    #[cfg(feature = "_waits")]
    #[cold]
    fn waited(&self) {
        // SAFETY: the node is done, and ours.
        let (joined, refused) = unsafe {
            (
                self.node.joined(),
                self.node.payload(|claim| claim.is_refused()),
            )
        };
        let wait = joined.elapsed();
        if !refused {
            let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
            self.pool.engine().counters.tallies.waits.record(nanos);
        }
        #[cfg(feature = "tracing")]
        self.trace.done(
            self.pool.engine(),
            if refused { "refused" } else { "granted" },
            wait,
        );
    }

    /// Gives up the place in the queue, or what was granted: it goes to whoever is next.
    #[inline]
    fn cancel(&self) {
        // Where it is idle nothing is held, and no one knows of the node.
        if self.node.status() != Status::Idle {
            self.cancel_slow();
        }
    }

    #[cold]
    fn cancel_slow(&self) {
        let engine = self.pool.engine();
        if self.node.status() == Status::Waiting {
            engine.leave(&self.node);
        }
        #[cfg(feature = "tracing")]
        self.trace.cancelled(engine);
        let granted = self.node.status() == Status::Done;
        // SAFETY: not waiting any more, so the payload is ours.
        unsafe {
            self.node.reset();
            self.node.payload(|claim| {
                if granted && claim.take_refusal().is_none() {
                    engine.counters.cancelled.fetch_add(1, Ordering::Relaxed);
                }
                claim.release();
            });
        }
        engine.pass_soft_news();
    }
}

impl<P: HasEngine> Drop for Wait<P> {
    #[inline]
    fn drop(&mut self) {
        // Pinned from its first poll on, which is the first time that anyone else could know of the node.
        self.cancel();
    }
}

impl Engine {
    /// All that the claim asks for, without waiting; on failure nothing is held.
    fn obtain_claim(&self, claim: &mut Claim) -> Result<(), Refused> {
        claim.plan(self.arena());
        if self.is_closed() {
            return Err(Refused::Closed);
        }
        if !self.fits(claim) {
            return Err(Refused::TooLarge);
        }
        loop {
            match self.obtain_all(claim) {
                // Before anyone parks, what is only cached goes.
                Err(Refused::Full) if self.make_way() => {}
                done => return done,
            }
        }
    }

    fn obtain_all(&self, claim: &mut Claim) -> Result<(), Refused> {
        while let Some(want) = claim.wants() {
            match self.obtain(want.n) {
                Ok(block) => claim.accept(want, block, self.tick()),
                Err(refused) => {
                    // Waiting with something in hand could starve whoever is ahead.
                    claim.release();
                    return Err(refused);
                }
            }
        }
        Ok(())
    }

    /// Joins the queue; answers its place in it, counted from one, unless it was served at once. The node may be done when this
    /// returns.
    fn join(&self, node: &Node<Claim>, waker: Waker, denied: bool) -> Option<usize> {
        // SAFETY: the node is idle, so its payload is its owner's.
        let bytes = unsafe { node.payload(|claim| claim.bytes()) };
        let mut state = lock(&self.state);
        let first = state.queue.is_empty() || state.closed;
        // SAFETY: the node is idle, and `Wait::cancel` takes it out before it goes away.
        unsafe { state.queue.push_back(node, bytes, waker) };
        let position = state.queue.len();
        if first {
            // First the doors are shut, then what was behind them is looked at: a drop either is seen or sees us.
            self.settle(&mut state);
            if !denied {
                self.conclude(state);
            }
        } else {
            // Whoever is ahead could not be served, so neither can this one.
            drop(state);
        }
        if node.status() != Status::Waiting {
            return None;
        }
        if self.counters.parked.fetch_add(1, Ordering::Relaxed) % CLOCK_EVERY == 0 {
            self.touch_clock();
        }
        if first {
            self.note_peak();
            self.begin_episode();
            self.note_pressure();
            if !denied {
                self.assist(node, false);
            }
        }
        Some(position)
    }

    /// A waiting node was polled again: perhaps for another task, perhaps because there is something to clean.
    fn rejoin(&self, node: &Node<Claim>, waker: &Waker) {
        let same = {
            let state = lock(&self.state);
            node.status() != Status::Waiting || state.queue.wakes(node, waker)
        };
        if !same {
            // User code, so without the lock: cloning the new waker, and dropping the old one.
            let new = waker.clone();
            let old = {
                let mut state = lock(&self.state);
                if node.status() == Status::Waiting {
                    state.queue.set_waker(node, new)
                } else {
                    Some(new)
                }
            };
            drop(old);
        }
        self.serve_denied();
        self.assist(node, true);
    }

    /// What whoever waits can do for itself and for those behind it, while it is polled: all that the reclaimer does, since that
    /// may be starved. `again`: the reclaimer had its chance to answer since this reservation joined. Runs user code.
    fn assist(&self, node: &Node<Claim>, again: bool) {
        let waits = || node.status() == Status::Waiting;
        while waits() && self.clean_one() {}
        if waits() {
            self.last_resort(self.may_call_back(again));
        }
        let work = {
            let mut state = lock(&self.state);
            waits() && self.is_cleanable(&mut state)
        };
        if work {
            self.help();
        }
    }

    fn leave(&self, node: &Node<Claim>) {
        let waker = self.locked(|state| {
            if node.status() != Status::Waiting {
                return None;
            }
            self.counters.cancelled.fetch_add(1, Ordering::Relaxed);
            state.queue.remove(node)
        });
        drop(waker);
    }

    /// Fails waiters, wherever they stand, whom the present limit can not serve.
    pub(super) fn refuse_too_large(&self, state: &mut State, wakers: &mut WakeList) {
        let too_large = |claim: &mut Claim| {
            let too_large = !self.fits(claim);
            if too_large {
                claim.refuse(Refused::TooLarge);
                self.take_back(claim);
            }
            too_large
        };
        state.queue.finish_where(too_large, wakers);
        state.recheck = wakers.is_full();
    }
}
