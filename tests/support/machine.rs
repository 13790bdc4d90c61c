//! A pool with a reference model beside it.
//!
//! One thread does everything, so that each step has one right outcome: reservations are polled by hand, only at first and
//! when they were woken, and the reclaimer sleeps in a runtime that never runs. After each step the model and the pool
//! have to agree.

use std::task::Poll;

use offheap::{DirectBytes, DirectBytesMut, Pool, ReserveError, TryReserveError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, Index};
use tokio::runtime::Runtime;

use crate::by_hand::ByHand;
use crate::sizes::sizes;
use crate::starved::starved;

const PAGE: usize = 4096;

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Reserve(usize),
    ReserveMany(Vec<usize>),
    TryReserve(usize),
    /// Drops a handle; if it was a block's last, the block comes back.
    Drop(Index),
    /// One more handle to a block: frozen, cloned or sliced.
    Share(Index),
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
        share: 5,
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
            0..=100_usize,
        )
            .prop_map(|(kind, n, many, a, b, percent)| match kind {
                0 => Op::Reserve(n),
                1 => Op::ReserveMany(many),
                2 => Op::TryReserve(n),
                3 => Op::Drop(a),
                4 => Op::Share(a),
                5 => Op::Cancel(a),
                6 => Op::DropThenCancel(a, b),
                7 => Op::SetLimit(percent),
                8 => Op::Trim,
                9 => Op::Poll(a),
                _ => Op::Close,
            });
        vec(op, 1..steps)
    }
}

type Granted = Result<Vec<DirectBytesMut>, ReserveError>;

struct Waiter {
    /// Grows with each arrival.
    arrival: u64,
    sizes: Vec<usize>,
    future: ByHand<dyn std::future::Future<Output = Granted>>,
}

enum Handle {
    Unique(DirectBytesMut),
    Shared(DirectBytes),
}

struct Block {
    len: usize,
    requested: usize,
    handles: Vec<Handle>,
}

pub(crate) struct Machine {
    queue: Vec<Waiter>,
    blocks: Vec<Block>,
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
    /// Never runs, but must not end before the pool.
    _runtime: Runtime,
}

impl Machine {
    pub(crate) fn new(limit: usize) -> Machine {
        let (pool, runtime) = starved(Pool::builder().limit(limit));
        Machine {
            queue: Vec::new(),
            blocks: Vec::new(),
            pool,
            max_limit: limit,
            limit,
            closed: false,
            arrivals: 0,
            reserved: 0,
            cancelled: 0,
            unfetched: false,
            committed: 0,
            _runtime: runtime,
        }
    }

    /// Does one step, lets everyone go on who was woken, and compares.
    pub(crate) fn step(&mut self, op: &Op) {
        match op {
            Op::Reserve(n) => self.reserve(vec![*n]),
            Op::ReserveMany(sizes) => self.reserve(sizes.clone()),
            Op::TryReserve(n) => self.try_reserve(*n),
            Op::Drop(handle) => self.drop_handle(handle),
            Op::Share(handle) => self.share(handle),
            Op::Cancel(waiter) => self.cancel(waiter),
            Op::DropThenCancel(handle, waiter) => {
                self.drop_handle(handle);
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
                    let at = waiter.index(self.queue.len());
                    // Polling cleans on behalf of the head, so that others may be woken by it; but not this one unheard.
                    if let Poll::Ready(result) = self.queue[at].future.poll() {
                        assert!(self.queue[at].future.take_woken(), "a lost wake-up");
                        let waiter = self.queue.remove(at);
                        self.done(&waiter.sizes, result);
                    }
                }
            }
            Op::Close => {
                self.pool.close();
                self.closed = true;
            }
        }
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
        while !self.blocks.is_empty() {
            self.blocks.pop();
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

    fn reserve(&mut self, sizes: Vec<usize>) {
        self.unfetched |= sizes.len() > 1;
        let pool = self.pool.clone();
        let (asked, single) = (sizes.clone(), sizes.len() == 1);
        let mut future: ByHand<dyn std::future::Future<Output = Granted>> =
            ByHand::new(Box::pin(async move {
                if single {
                    Ok(vec![pool.reserve(asked[0]).await?])
                } else {
                    pool.reserve_many(asked).await
                }
            }));
        match future.poll() {
            Poll::Ready(result) => {
                let needs_memory = sizes.iter().any(|&n| n > 0);
                let barged = result.is_ok() && needs_memory && !self.queue.is_empty();
                assert!(!barged, "{sizes:?} overtook {} waiters", self.queue.len());
                self.done(&sizes, result);
            }
            Poll::Pending => {
                assert!(!self.closed, "waits for a closed pool");
                assert!(!self.is_impossible(&sizes), "waits for the impossible");
                self.arrivals += 1;
                self.queue.push(Waiter {
                    arrival: self.arrivals,
                    sizes,
                    future,
                });
            }
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
                self.done(&[n], Ok(vec![buffer]));
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

    fn drop_handle(&mut self, index: &Index) {
        let count = self.blocks.iter().map(|block| block.handles.len()).sum();
        if count == 0 {
            return;
        }
        let mut nth = index.index(count);
        for at in 0..self.blocks.len() {
            let handles = &mut self.blocks[at].handles;
            if nth < handles.len() {
                handles.swap_remove(nth);
                if handles.is_empty() {
                    self.blocks.swap_remove(at);
                }
                return;
            }
            nth -= handles.len();
        }
    }

    fn share(&mut self, index: &Index) {
        if self.blocks.is_empty() {
            return;
        }
        let at = index.index(self.blocks.len());
        let handles = &mut self.blocks[at].handles;
        let more = match handles.pop().expect("a block has a handle") {
            Handle::Unique(mut buffer) => {
                buffer.resize(buffer.capacity().min(16), 1);
                let shared = buffer.freeze();
                handles.push(Handle::Shared(shared.slice(1..)));
                shared
            }
            Handle::Shared(shared) => {
                handles.push(Handle::Shared(shared.clone()));
                shared
            }
        };
        handles.push(Handle::Shared(more));
    }

    fn cancel(&mut self, index: &Index) {
        if !self.queue.is_empty() {
            drop(self.queue.remove(index.index(self.queue.len())));
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
                self.done(&waiter.sizes, result);
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

    fn done(&mut self, sizes: &[usize], result: Granted) {
        match result {
            Ok(buffers) => {
                assert!(!self.closed && !self.is_impossible(sizes));
                assert_eq!(buffers.len(), sizes.len());
                for (&requested, buffer) in sizes.iter().zip(buffers) {
                    assert!(buffer.is_empty() && buffer.capacity() >= requested);
                    assert_eq!(buffer.block_len() == 0, requested == 0);
                    if requested > 0 {
                        self.reserved += 1;
                        self.blocks.push(Block {
                            len: buffer.block_len(),
                            requested,
                            handles: vec![Handle::Unique(buffer)],
                        });
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
        let stats = self.pool.stats();
        let sum = |f: fn(&Block) -> usize| self.blocks.iter().map(f).sum::<usize>() as u64;

        // 1: in debt, no byte more.
        let bound = self.committed.max(self.limit as u64);
        assert!(
            stats.committed <= bound,
            "{} above {bound}",
            stats.committed
        );
        self.committed = stats.committed;

        // 2 and 6: whoever is first waits for a reason. Blocks that several share a page with count for their own size only.
        if let Some([n]) = self.queue.first().map(|head| &head.sizes[..]) {
            let (room, need) = (self.room(), pages(&[*n], self.max_limit));
            assert!(
                room < need,
                "{n} bytes wait, though {room} pages are free: {stats:?}"
            );
        }

        // 8: no one waits for what can not come.
        for waiter in &self.queue {
            assert!(
                !self.closed && !self.is_impossible(&waiter.sizes),
                "{:?}",
                waiter.sizes
            );
        }

        // 13. Whoever is first and wants several blocks may have some of them already.
        let head = self.queue.first().map_or(1, |head| head.sizes.len());
        let granted = stats.buffers - self.blocks.len() as u64;
        assert!(granted == 0 || granted < head as u64, "{stats:?}");
        if granted == 0 {
            assert_eq!(stats.live, sum(|block| block.len));
            assert_eq!(stats.requested, sum(|block| block.requested));
        }
        assert_eq!(stats.limit, self.limit as u64);
        assert_eq!(stats.queued, stats.committed - stats.live);
        assert!(stats.stranded <= stats.queued && stats.live <= stats.peak_live);
        assert_eq!(stats.waiting, self.queue.len() as u64);
        let asked = self.queue.iter().flat_map(|waiter| &waiter.sizes);
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
