//! A pair: take a buffer, write its first 8 bytes, give it back. There is always room.
//!
//! Two threads at the same work share one peer but no buffer, and the time is per pair of each thread: equal to that of
//! one thread where the two do not disturb each other. Nothing here waits, and nothing fills the memory or reads more than was written: what is
//! measured is handing out and taking back.

use std::hint;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::figures::bytes;
use crate::peers::{Kind, Lease, Peer};

/// Live buffers of the window, and places in the ring between two threads.
pub const WINDOW: usize = 64;
/// Pairs before the clock starts, on each thread; fewer of those that may be system calls.
const WARM_UP: u64 = 256;
const WARM_UP_LARGE: u64 = 4;

/// In which order buffers come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Each buffer is dropped before the next one is taken.
    Lifo,
    /// 64 buffers live; the oldest is dropped when a new one has been taken.
    Window,
    /// One thread takes and writes, another reads and drops; between them is a ring of 64 places, the same for all peers.
    Cross,
}

/// A row of the comparison.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The order.
    pub pattern: Pattern,
    /// Bytes of each buffer.
    pub size: usize,
    /// 1 or 2, each at the same work; always 2 for [`Pattern::Cross`].
    pub threads: usize,
}

/// All rows; the first is the one to look at where there is time for one.
pub fn plans() -> Vec<Plan> {
    use Pattern::{Cross, Lifo, Window};
    let mut plans = Vec::new();
    for (pattern, threads) in [(Lifo, 1), (Lifo, 2), (Window, 1), (Window, 2), (Cross, 2)] {
        for size in [4 << 10, 16 << 10, 64 << 10] {
            plans.push(Plan {
                pattern,
                size,
                threads,
            });
        }
    }
    for size in [256, 1 << 10, 1 << 20, 64 << 20] {
        plans.push(Plan {
            pattern: Lifo,
            size,
            threads: 1,
        });
    }
    plans
}

impl Plan {
    /// Such as `LIFO 4 KiB, 1 thread`.
    pub fn name(&self) -> String {
        let (pattern, threads) = self.group();
        format!("{pattern} {}, {threads}", bytes(self.size))
    }

    /// Such as `LIFO` and `1 thread`.
    pub fn group(&self) -> (&'static str, String) {
        let pattern = match self.pattern {
            Pattern::Lifo => "LIFO",
            Pattern::Window => "window",
            Pattern::Cross => "cross",
        };
        let threads = if self.threads == 1 {
            "thread"
        } else {
            "threads"
        };
        (pattern, format!("{} {threads}", self.threads))
    }

    /// More than all threads need, so that nobody has to wait.
    pub fn limit(&self) -> usize {
        const MOST: usize = 1 << 30;
        (8 * WINDOW * self.size).min(MOST).max(8 * self.size)
    }

    /// Whether a peer can do it: the floor is for one thread that takes, and has its buffers in rotation.
    pub fn suits<P: Peer>(&self) -> bool {
        let rotates = match self.pattern {
            Pattern::Lifo => false,
            Pattern::Window => self.threads == 1,
            Pattern::Cross => true,
        };
        rotates || P::KIND != Kind::Floor
    }

    /// How long `pairs` pairs take, on each thread.
    pub fn time<P: Peer>(&self, peer: &P, pairs: u64) -> Duration {
        match (self.pattern, self.threads) {
            (Pattern::Cross, _) => self.time_cross(peer, pairs),
            (_, 1) => self.time_one(peer, pairs, || {}),
            (_, threads) => {
                let barrier = Barrier::new(threads);
                let one = || {
                    self.time_one(peer, pairs, || {
                        barrier.wait();
                    })
                };
                thread::scope(|scope| {
                    let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
                    let times = threads
                        .into_iter()
                        .map(|thread| thread.join().expect("no panic"));
                    times.max().unwrap_or_default()
                })
            }
        }
    }

    fn time_one<P: Peer>(&self, peer: &P, pairs: u64, ready: impl FnOnce()) -> Duration {
        let mut slots = Vec::new();
        if self.pattern == Pattern::Window {
            slots.resize_with(WINDOW, || taken(peer, self.size));
        }
        self.pairs(peer, self.warm_up(), &mut slots);
        ready();
        let start = Instant::now();
        self.pairs(peer, pairs, &mut slots);
        start.elapsed()
    }

    fn pairs<P: Peer>(&self, peer: &P, pairs: u64, slots: &mut [P::Lease]) {
        if slots.is_empty() {
            for _ in 0..pairs {
                drop(taken(peer, self.size));
            }
        } else {
            for pair in 0..pairs {
                slots[pair as usize % WINDOW] = taken(peer, self.size);
            }
        }
    }

    fn warm_up(&self) -> u64 {
        if self.size < 1 << 20 {
            WARM_UP
        } else {
            WARM_UP_LARGE
        }
    }

    fn time_cross<P: Peer>(&self, peer: &P, pairs: u64) -> Duration {
        let warm_up = self.warm_up();
        let (mut send, mut receive) = RingBuffer::new(WINDOW);
        thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..warm_up + pairs {
                    push(&mut send, taken(peer, self.size));
                }
            });
            let dropper = scope.spawn(move || {
                (0..warm_up).for_each(|_| read(pop(&mut receive)));
                let start = Instant::now();
                (0..pairs).for_each(|_| read(pop(&mut receive)));
                start.elapsed()
            });
            dropper.join().expect("no panic")
        })
    }
}

/// Reads what was written, and gives the buffer back.
#[inline(always)]
fn read(mut lease: impl Lease) {
    lease.look();
}

/// Takes a buffer and writes to it.
#[inline(always)]
pub(super) fn taken<P: Peer>(peer: &P, size: usize) -> P::Lease {
    let mut lease = peer.try_take(size);
    lease.touch();
    lease
}

fn push<T>(ring: &mut Producer<T>, mut item: T) {
    let mut spins = 0;
    while let Err(rtrb::PushError::Full(back)) = ring.push(item) {
        item = back;
        pause(&mut spins);
    }
}

fn pop<T>(ring: &mut Consumer<T>) -> T {
    let mut spins = 0;
    loop {
        match ring.pop() {
            Ok(item) => return item,
            Err(rtrb::PopError::Empty) => pause(&mut spins),
        }
    }
}

/// Spins, and lets others run when that takes long: the other thread may have no core.
fn pause(spins: &mut u32) {
    *spins += 1;
    if *spins % 256 == 0 {
        thread::yield_now();
    } else {
        hint::spin_loop();
    }
}
