//! A pool with a reference model beside it: of its figures, of who is served when, and of what every handle shows.
//!
//! One thread does everything, so that each step has one right outcome: reservations are polled by hand, only at first and
//! when they were woken, and the reclaimer sleeps in a runtime that never runs. After each step the model and the pool
//! have to agree.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use offheap::{DirectBytesMut, PollReserve, Pool, ReserveError, TryReserveError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, Index};
use tokio::runtime::Runtime;

use crate::by_hand::ByHand;
use crate::sizes::sizes;
use crate::starved::starved;

#[path = "holdings.rs"]
mod holdings;

use holdings::{Holdings, What};

const PAGE: usize = 4096;

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Reserve(usize),
    ReserveZeroed(usize),
    ReserveMany(Vec<usize>),
    /// By one of a few `PollReserve`s, which are used again and again, and may change their mind.
    PollReserve(usize, usize),
    TryReserve(usize),
    /// Drops a handle; if it was a block's last, the block comes back.
    Drop(Index),
    /// Does something with a handle: writes, shares, splits, caches.
    Handle(Index, What, Index),
    Upgrade(Index),
    CacheGet(Index),
    CacheRemove(u32),
    Cancel(Index),
    /// Drops a handle, and a waiter before it can see what that brought it.
    DropThenCancel(Index, Index),
    /// In per cent of the largest possible.
    SetLimit(usize),
    Trim,
    /// Polls a waiter that nobody woke.
    Poll(Index),
    Close,
}

/// How often each kind of step comes, in proportion.
#[derive(Clone, Copy)]
pub(crate) struct Mix {
    pub(crate) reserve: usize,
    pub(crate) many: usize,
    pub(crate) try_reserve: usize,
    pub(crate) drop: usize,
    pub(crate) share: usize,
    pub(crate) weak: usize,
    pub(crate) cache: usize,
    pub(crate) cancel: usize,
    pub(crate) limit: usize,
    pub(crate) trim: usize,
    pub(crate) poll: usize,
    pub(crate) close: usize,
}

impl Mix {
    pub(crate) const ALL: Mix = Mix {
        reserve: 30,
        many: 5,
        try_reserve: 15,
        drop: 35,
        share: 20,
        weak: 3,
        cache: 3,
        cancel: 4,
        limit: 3,
        trim: 2,
        poll: 3,
        close: 0,
    };

    /// Plans of up to `steps` steps for a pool of `limit` bytes.
    pub(crate) fn plans(self, limit: usize, steps: usize) -> impl Strategy<Value = Vec<Op>> {
        let kinds: Vec<usize> = [
            self.reserve,
            self.many,
            self.try_reserve,
            self.drop,
            self.share,
            self.cancel,
            self.cancel,
            self.limit,
            self.trim,
            self.poll,
            self.close,
            self.reserve / 4,
            self.reserve / 4,
            self.weak,
            self.cache,
            self.cache.div_ceil(3),
        ]
        .into_iter()
        .enumerate()
        .flat_map(|(kind, weight)| std::iter::repeat_n(kind, weight))
        .collect();
        let size = prop_oneof![40 => sizes(limit), 1 => Just(0_usize), 1 => Just(usize::MAX)];
        let many = vec(
            prop_oneof![10 => sizes(limit / 4), 1 => Just(0_usize)],
            0..6,
        );
        let op = (
            select(kinds),
            size,
            many,
            any::<Index>(),
            any::<Index>(),
            select(&What::ALL[..]),
            0..=100_usize,
        )
            .prop_map(|(kind, n, many, a, b, what, percent)| match kind {
                0 => Op::Reserve(n),
                1 => Op::ReserveMany(many),
                2 => Op::TryReserve(n),
                3 => Op::Drop(a),
                4 => Op::Handle(a, what, b),
                5 => Op::Cancel(a),
                6 => Op::DropThenCancel(a, b),
                7 => Op::SetLimit(percent),
                8 => Op::Trim,
                9 => Op::Poll(a),
                10 => Op::Close,
                11 => Op::ReserveZeroed(n),
                12 => Op::PollReserve(percent % SLOTS, n),
                13 => Op::Upgrade(a),
                14 => Op::CacheGet(a),
                _ => Op::CacheRemove(percent as u32 % 6),
            });
        vec(op, 1..steps)
    }
}

type Granted = Result<Vec<DirectBytesMut>, ReserveError>;

/// How many `PollReserve`s there are.
const SLOTS: usize = 2;

struct Waiter {
    /// Grows with each arrival.
    arrival: u64,
    asked: Asked,
    future: ByHand<dyn std::future::Future<Output = Granted>>,
}

#[derive(Debug, Clone)]
struct Asked {
    sizes: Vec<usize>,
    zeroed: bool,
    /// By which `PollReserve`.
    slot: Option<usize>,
}

impl Asked {
    fn plainly(sizes: Vec<usize>) -> Self {
        Asked {
            sizes,
            zeroed: false,
            slot: None,
        }
    }
}

pub(crate) struct Machine {
    queue: Vec<Waiter>,
    holdings: Holdings,
    slots: Vec<Rc<RefCell<PollReserve>>>,
    pub(crate) pool: Pool,
    max_limit: usize,
    limit: usize,
    closed: bool,
    arrivals: u64,
    reserved: u64,
    cancelled: u64,
    /// There may have been grants that nobody fetched.
    unfetched: bool,
    committed: u64,
    /// Someone has waited, or asked to, since the evictions were last looked at.
    wanted: bool,
    /// Never runs, but must not end before the pool.
    _runtime: Runtime,
}

impl Machine {
    pub(crate) fn new(limit: usize) -> Machine {
        let (pool, runtime) = starved(Pool::builder().limit(limit));
        Machine {
            queue: Vec::new(),
            holdings: Holdings::new(&pool),
            slots: (0..SLOTS)
                .map(|_| Rc::new(RefCell::new(PollReserve::new(pool.clone()))))
                .collect(),
            pool,
            max_limit: limit,
            limit,
            closed: false,
            arrivals: 0,
            reserved: 0,
            cancelled: 0,
            unfetched: false,
            committed: 0,
            wanted: false,
            _runtime: runtime,
        }
    }

    /// Does one step, lets everyone go on who was woken, and compares.
    pub(crate) fn step(&mut self, op: &Op) {
        match op {
            Op::Reserve(n) => self.reserve(Asked::plainly(vec![*n])),
            Op::ReserveZeroed(n) => self.reserve(Asked {
                zeroed: true,
                ..Asked::plainly(vec![*n])
            }),
            Op::ReserveMany(sizes) => self.reserve(Asked::plainly(sizes.clone())),
            Op::PollReserve(slot, n) => self.poll_reserve(*slot, *n),
            Op::TryReserve(n) => self.try_reserve(*n),
            Op::Drop(handle) => self.holdings.drop_one(handle),
            Op::Handle(handle, what, n) => self.holdings.handle(handle, *what, n),
            Op::Upgrade(weak) => self.holdings.upgrade(weak),
            Op::CacheGet(key) => self.holdings.cache_get(key),
            Op::CacheRemove(key) => self.holdings.cache_remove(*key),
            Op::Cancel(waiter) => self.cancel(waiter),
            Op::DropThenCancel(handle, waiter) => {
                self.holdings.drop_one(handle);
                self.cancel(waiter);
            }
            Op::SetLimit(percent) => {
                self.limit = self.max_limit / 100 * percent;
                self.pool.set_limit(self.limit).unwrap();
            }
            Op::Trim => {
                self.pool.trim();
                let stats = self.pool.stats();
                if self.queue.is_empty() {
                    assert_eq!(stats.queued, stats.stranded, "trim left something");
                }
            }
            Op::Poll(waiter) => {
                if !self.queue.is_empty() {
                    self.poll_unheard(waiter.index(self.queue.len()));
                }
            }
            Op::Close => {
                self.pool.close();
                self.closed = true;
            }
        }
        self.wanted |= !self.queue.is_empty();
        self.go_on();
        self.compare();
    }

    /// Everything comes back, and everyone is served.
    pub(crate) fn finish(mut self) {
        if !self.closed {
            self.limit = self.max_limit;
            self.pool.set_limit(self.limit).unwrap();
        }
        self.go_on();
        while self.holdings.drop_block() {
            self.go_on();
            self.compare();
        }
        assert!(
            self.queue.is_empty(),
            "an empty pool leaves someone waiting"
        );
        self.pool.trim();
        let stats = self.pool.stats();
        assert_eq!(
            (stats.committed, stats.live, stats.queued),
            (0, 0, 0),
            "{stats:?}"
        );
        assert_eq!(stats.reclaimed_total, stats.reserved_total);
    }

    // ---- steps --------------------------------------------------------------------------------------------------

    fn reserve(&mut self, asked: Asked) {
        let pool = self.pool.clone();
        let slot = asked.slot.map(|slot| self.slots[slot].clone());
        let Asked { sizes, zeroed, .. } = asked.clone();
        self.ask(
            asked,
            ByHand::new(Box::pin(async move {
                Ok(match (slot, &sizes[..]) {
                    (Some(slot), &[n]) => {
                        vec![poll_fn(|cx| slot.borrow_mut().poll_reserve(cx, n)).await?]
                    }
                    (None, &[n]) if zeroed => vec![pool.reserve_zeroed(n).await?],
                    (None, &[n]) => vec![pool.reserve(n).await?],
                    _ => return pool.reserve_many(sizes).await,
                })
            })),
        );
    }

    fn ask(&mut self, asked: Asked, mut future: ByHand<dyn std::future::Future<Output = Granted>>) {
        self.unfetched |= asked.sizes.len() > 1;
        self.wanted = true;
        match future.poll() {
            Poll::Ready(result) => {
                if asked.slot.is_some() {
                    // It may have given up its place first, and others were served by that.
                    self.go_on();
                }
                let needs_memory = asked.sizes.iter().any(|&n| n > 0);
                let barged = result.is_ok() && needs_memory && !self.queue.is_empty();
                assert!(!barged, "{asked:?} overtook {} waiters", self.queue.len());
                self.holdings.follow_evictions();
                self.done(&asked, result);
            }
            Poll::Pending => {
                assert!(!self.closed, "waits for a closed pool");
                assert!(
                    !self.is_impossible(&asked.sizes),
                    "waits for the impossible"
                );
                self.arrivals += 1;
                self.queue.push(Waiter {
                    arrival: self.arrivals,
                    asked,
                    future,
                });
            }
        }
    }

    /// The same size again is another poll; another size gives the place in the queue up.
    fn poll_reserve(&mut self, slot: usize, n: usize) {
        let waits = |waiter: &Waiter| waiter.asked.slot == Some(slot);
        match self.queue.iter().position(waits) {
            Some(at) if self.queue[at].asked.sizes == [n] => return self.poll_unheard(at),
            Some(at) => {
                drop(self.queue.remove(at));
                self.cancelled += 1;
                self.unfetched = true;
            }
            None => {}
        }
        self.reserve(Asked {
            slot: Some(slot),
            ..Asked::plainly(vec![n])
        });
    }

    /// Polls a waiter that nobody woke.
    fn poll_unheard(&mut self, at: usize) {
        // Polling cleans on behalf of the head, so that others may be woken by it; but not this one unheard.
        if let Poll::Ready(result) = self.queue[at].future.poll() {
            assert!(self.queue[at].future.take_woken(), "a lost wake-up");
            let waiter = self.queue.remove(at);
            self.holdings.follow_evictions();
            self.done(&waiter.asked, result);
        }
    }

    fn try_reserve(&mut self, n: usize) {
        let room = self.room();
        match self.pool.try_reserve(n) {
            Ok(buffer) => {
                assert!(
                    n == 0 || self.queue.is_empty(),
                    "try_reserve overtook someone"
                );
                self.done(&Asked::plainly(vec![n]), Ok(vec![buffer]));
            }
            Err(TryReserveError::Closed { .. }) => assert!(self.closed),
            Err(TryReserveError::TooLarge { .. }) => {
                assert!(
                    !self.closed && self.is_impossible(&[n]),
                    "{n} is not too large"
                );
            }
            Err(TryReserveError::Exhausted { .. }) => {
                assert!(!self.closed && !self.is_impossible(&[n]) && n > 0);
                assert!(
                    !self.queue.is_empty() || room < pages(&[n], self.max_limit),
                    "exhausted, though {room} pages are free and {n} bytes are asked for"
                );
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn cancel(&mut self, index: &Index) {
        if !self.queue.is_empty() {
            let waiter = self.queue.remove(index.index(self.queue.len()));
            if let Some(slot) = waiter.asked.slot {
                self.slots[slot].borrow_mut().cancel();
            }
            drop(waiter);
            self.cancelled += 1;
            self.unfetched = true;
        }
    }

    // ---- the model ----------------------------------------------------------------------------------------------

    /// Polls whoever was woken, until nobody is.
    fn go_on(&mut self) {
        let mut served = 0;
        while let Some(at) = self
            .queue
            .iter()
            .position(|waiter| waiter.future.take_woken())
        {
            if let Poll::Ready(result) = self.queue[at].future.poll() {
                let waiter = self.queue.remove(at);
                if result.is_ok() {
                    served = served.max(waiter.arrival);
                }
                self.holdings.follow_evictions();
                self.done(&waiter.asked, result);
            }
        }
        if let Some(head) = self.queue.first() {
            assert!(
                head.arrival > served,
                "{} overtook {}",
                served,
                head.arrival
            );
        }
    }

    fn done(&mut self, asked: &Asked, result: Granted) {
        let sizes = &asked.sizes[..];
        match result {
            Ok(buffers) => {
                assert!(!self.closed && !self.is_impossible(sizes));
                assert_eq!(buffers.len(), sizes.len());
                for (&requested, buffer) in sizes.iter().zip(buffers) {
                    let len = if asked.zeroed { requested } else { 0 };
                    assert!(buffer.len() == len && buffer.capacity() >= requested);
                    assert_eq!(buffer.block_len() == 0, requested == 0);
                    if requested > 0 {
                        self.reserved += 1;
                        self.holdings.add(requested, buffer);
                    }
                }
            }
            Err(ReserveError::Closed { .. }) => assert!(self.closed, "not closed"),
            Err(ReserveError::TooLarge { .. }) => {
                assert!(!self.closed && self.is_impossible(sizes), "{sizes:?} fit");
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn is_impossible(&self, sizes: &[usize]) -> bool {
        let largest = sizes.iter().copied().max().unwrap_or(0);
        largest > self.pool.max_reserve() || pages(sizes, self.max_limit) > self.limit / PAGE
    }

    /// Pages that are neither live nor stranded.
    fn room(&self) -> usize {
        let stats = self.pool.stats();
        (self.limit / PAGE).saturating_sub((stats.live + stats.stranded) as usize / PAGE)
    }

    fn compare(&mut self) {
        // Cached buffers go only where someone wants memory, or nobody can have any more; and while someone waits none is left.
        let evicted = self.holdings.follow_evictions();
        assert!(
            evicted == 0 || self.wanted || self.closed,
            "evicted for nobody"
        );
        assert!(
            self.queue.is_empty() || !self.holdings.is_evictable(),
            "someone waits, and what is only cached stays"
        );
        self.wanted = !self.queue.is_empty();
        self.holdings.check();
        let stats = self.pool.stats();

        // 1: in debt, no byte more.
        let bound = self.committed.max(self.limit as u64);
        assert!(
            stats.committed <= bound,
            "{} above {bound}",
            stats.committed
        );
        self.committed = stats.committed;

        // 2 and 6: whoever is first waits for a reason. Blocks that several share a page with count for their own size only.
        if let Some([n]) = self.queue.first().map(|head| &head.asked.sizes[..]) {
            let (room, need) = (self.room(), pages(&[*n], self.max_limit));
            assert!(
                room < need,
                "{n} bytes wait, though {room} pages are free: {stats:?}"
            );
        }

        // 8: no one waits for what can not come.
        for waiter in &self.queue {
            assert!(
                !self.closed && !self.is_impossible(&waiter.asked.sizes),
                "{:?}",
                waiter.asked
            );
        }

        // 13. Whoever is first and wants several blocks may have some of them already.
        let head = self.queue.first().map_or(1, |head| head.asked.sizes.len());
        let granted = stats.buffers - self.holdings.blocks() as u64;
        assert!(granted == 0 || granted < head as u64, "{stats:?}");
        if granted == 0 {
            assert_eq!(stats.live, self.holdings.live());
            assert_eq!(stats.requested, self.holdings.requested());
        }
        assert_eq!(stats.limit, self.limit as u64);
        assert_eq!(stats.queued, stats.committed - stats.live);
        assert!(stats.stranded <= stats.queued && stats.live <= stats.peak_live);
        assert_eq!(stats.waiting, self.queue.len() as u64);
        let asked = self.queue.iter().flat_map(|waiter| &waiter.asked.sizes);
        assert_eq!(stats.waiting_bytes, asked.sum::<usize>() as u64);
        assert_eq!(stats.cancelled_total, self.cancelled);
        // Grants that nobody fetched count as well, as reserved and as reclaimed.
        assert_eq!(stats.reserved_total - stats.reclaimed_total, stats.buffers);
        assert!(stats.reserved_total >= self.reserved);
        if !self.unfetched {
            assert_eq!(stats.reserved_total, self.reserved);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The buffers first or the pool first: both are right, but here the handles must not keep waiters busy.
        self.queue.clear();
    }
}

/// Pages that an empty pool needs for all of `sizes`: blocks of the same size share pages, others do not.
fn pages(sizes: &[usize], max_limit: usize) -> usize {
    let mut small = [0_usize; 5];
    let mut pages = 0_usize;
    for &n in sizes.iter().filter(|&&n| n > 0) {
        if n > max_limit {
            return usize::MAX;
        }
        if n <= PAGE {
            small[n.next_power_of_two().max(256).ilog2() as usize - 8] += 1;
        } else {
            pages += class_size(n).min(max_limit / PAGE * PAGE).div_ceil(PAGE);
        }
    }
    let shared = (8..)
        .zip(small)
        .map(|(log, count)| (count << log).div_ceil(PAGE));
    pages + shared.sum::<usize>()
}

/// Four sizes per doubling.
fn class_size(n: usize) -> usize {
    let quarter = n.next_power_of_two() / 8;
    n.div_ceil(quarter) * quarter
}
