//! One reservation, from its first poll to its block.

use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::{Engine, Refused, State};
use crate::arena::{Block, Handle};
use crate::budget::{Node, Status, WakeList};
use crate::sync::{lock, Ordering};

/// One in so many parked reservations looks at the time. It costs more than all the rest of parking.
const CLOCK_EVERY: u64 = 64;

/// A line of code that reserves.
pub(crate) type Site = &'static Location<'static>;

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

/// What a reservation asks for, and what it has got.
#[derive(Debug)]
pub(crate) struct Claim {
    asked: Asked,
    site: Site,
    refused: Option<Refused>,
}

#[derive(Debug)]
enum Asked {
    One(usize, Option<Handle>),
    /// In the order of the sizes; sizes of zero need no block.
    Many(Vec<usize>, Vec<Option<Handle>>),
}

/// The next block that a claim wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    pub(super) n: usize,
    /// Whether the claim must make do with as few pages as possible, because it was found to fit on that condition.
    pub(super) frugal: bool,
}

impl Claim {
    pub(crate) fn one(n: usize, site: Site) -> Self {
        Claim {
            asked: Asked::One(n, None),
            site,
            refused: None,
        }
    }

    pub(crate) fn many(sizes: Vec<usize>, site: Site) -> Self {
        let blocks = Vec::with_capacity(sizes.len());
        Claim {
            asked: Asked::Many(sizes, blocks),
            site,
            refused: None,
        }
    }

    fn sizes(&self) -> &[usize] {
        match &self.asked {
            Asked::One(n, _) => std::slice::from_ref(n),
            Asked::Many(sizes, _) => sizes,
        }
    }

    /// Bytes asked for.
    pub(super) fn bytes(&self) -> u64 {
        self.sizes().iter().map(|&n| n as u64).sum()
    }

    /// What is missing next; `None` when the claim is satisfied.
    pub(super) fn wants(&mut self) -> Option<Want> {
        let frugal = matches!(self.asked, Asked::Many(..));
        let n = match &mut self.asked {
            Asked::One(n, block) => (block.is_none() && *n > 0).then_some(*n)?,
            Asked::Many(sizes, blocks) => {
                while sizes.get(blocks.len()) == Some(&0) {
                    blocks.push(None);
                }
                *sizes.get(blocks.len())?
            }
        };
        Some(Want { n, frugal })
    }

    /// Whether the next block is all that is missing.
    pub(super) fn wants_one(&self) -> bool {
        match &self.asked {
            Asked::One(..) => true,
            Asked::Many(sizes, blocks) => blocks.len() + 1 == sizes.len(),
        }
    }

    /// Takes a block for what is wanted next: it is live from now on. Allocates nothing: `many` made room.
    pub(super) fn accept(&mut self, want: Want, block: Block, tick: u32) {
        let granted = block.lease(want.n, self.site, tick);
        match &mut self.asked {
            Asked::One(_, block) => *block = Some(granted),
            Asked::Many(_, blocks) => blocks.push(Some(granted)),
        }
    }

    pub(super) fn refuse(&mut self, why: Refused) {
        self.refused = Some(why);
    }

    /// Drops what was granted so far.
    fn release(&mut self) {
        match &mut self.asked {
            Asked::One(_, block) => *block = None,
            Asked::Many(_, blocks) => blocks.clear(),
        }
    }

    /// Passes each grant to `f`, in the order of the sizes; none for zero bytes.
    fn hand_out(&mut self, mut f: impl FnMut(Option<Handle>)) {
        match &mut self.asked {
            Asked::One(_, block) => f(block.take()),
            Asked::Many(sizes, blocks) => {
                // Trailing zeros are not asked for one by one.
                blocks.resize_with(sizes.len(), || None);
                blocks.drain(..).for_each(f);
            }
        }
    }
}

/// A reservation that may wait. Holds its place in the queue from the first poll until it is done or dropped.
#[derive(Debug)]
pub(crate) struct Wait<P: HasEngine> {
    pool: P,
    node: Node<Claim>,
}

impl<P: HasEngine> Wait<P> {
    pub(crate) fn new(pool: P, claim: Claim) -> Self {
        Wait {
            pool,
            node: Node::new(claim),
        }
    }

    pub(crate) fn pool(&self) -> &P {
        &self.pool
    }

    /// Changes what is asked for. Only before the first poll and after the last; a place in the queue is given up.
    pub(crate) fn ask(self: Pin<&mut Self>, n: usize, site: Site) {
        self.cancel();
        // SAFETY: `cancel` took the node out of the queue.
        unsafe { self.node.payload(|claim| *claim = Claim::one(n, site)) };
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
        match node.status() {
            Status::Idle => {
                // SAFETY: an idle node is its owner's.
                let ready = unsafe { node.payload(|claim| engine.obtain_claim(claim)) };
                match ready {
                    Err(Refused::Full) => engine.join(node, cx.waker().clone()),
                    Err(refused) => return Poll::Ready(Err(refused)),
                    Ok(()) => {}
                }
            }
            Status::Waiting => engine.rejoin(node, cx.waker()),
            Status::Done => {}
        }
        if node.status() == Status::Waiting {
            return Poll::Pending;
        }
        // SAFETY: not waiting, so the payload is ours again.
        let done = unsafe {
            node.reset();
            node.payload(|claim| match claim.refused.take() {
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

    /// Gives up the place in the queue, or what was granted: it goes to whoever is next.
    fn cancel(&self) {
        let engine = self.pool.engine();
        match self.node.status() {
            // Nothing is held, and no one knows of the node.
            Status::Idle => return,
            Status::Waiting => engine.leave(&self.node),
            Status::Done => {}
        }
        let granted = self.node.status() == Status::Done;
        // SAFETY: not waiting any more, so the payload is ours.
        unsafe {
            self.node.reset();
            self.node.payload(|claim| {
                if granted && claim.refused.take().is_none() {
                    engine.counters.cancelled.fetch_add(1, Ordering::Relaxed);
                }
                claim.release();
            });
        }
    }
}

impl<P: HasEngine> Drop for Wait<P> {
    fn drop(&mut self) {
        // Pinned from its first poll on, which is the first time that anyone else could know of the node.
        self.cancel();
    }
}

impl Engine {
    /// All that the claim asks for, without waiting; on failure nothing is held.
    fn obtain_claim(&self, claim: &mut Claim) -> Result<(), Refused> {
        if let Asked::One(n, block) = &mut claim.asked {
            if *n > 0 {
                *block = Some(self.obtain(*n)?.lease(*n, claim.site, self.tick()));
            } else if self.is_closed() {
                return Err(Refused::Closed);
            }
            return Ok(());
        }
        if self.is_closed() {
            return Err(Refused::Closed);
        }
        if !self.fits(claim.sizes()) {
            return Err(Refused::TooLarge);
        }
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

    /// Joins the queue. The node may be done when this returns.
    fn join(&self, node: &Node<Claim>, waker: Waker) {
        // SAFETY: the node is idle, so its payload is its owner's.
        let bytes = unsafe { node.payload(|claim| claim.bytes()) };
        let mut state = lock(&self.state);
        let first = state.queue.is_empty() || state.closed;
        // SAFETY: the node is idle, and `Wait::cancel` takes it out before it goes away.
        unsafe { state.queue.push_back(node, bytes, waker) };
        if first {
            // First the doors are shut, then what was behind them is looked at: a drop either is seen or sees us.
            self.settle(&mut state);
            self.conclude(state);
        } else {
            // Whoever is ahead could not be served, so neither can this one.
            drop(state);
        }
        if node.status() != Status::Waiting {
            return;
        }
        if self.counters.parked.fetch_add(1, Ordering::Relaxed) % CLOCK_EVERY == 0 {
            self.touch_clock();
        }
        if first {
            self.note_peak();
            if self.is_cleanable(&mut lock(&self.state)) {
                self.help();
            }
        }
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
        let work = {
            let mut state = lock(&self.state);
            node.status() == Status::Waiting && self.is_cleanable(&mut state)
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
            let too_large = !self.fits(claim.sizes());
            if too_large {
                claim.refuse(Refused::TooLarge);
            }
            too_large
        };
        state.queue.finish_where(too_large, wakers);
        state.recheck = wakers.is_full();
    }
}
