//! std or a model checker, or the simulation of many cores; nothing else.
//!
//! The concurrent core takes its atomics, its lock and its cell from here. Under `cfg(offheap_loom)`, which only
//! the `loom-tests` member sets, they are loom's and every interleaving can be explored; with `cfg(offheap_shuttle)` beside it,
//! set by `shuttle-tests`, they are shuttle's, which tries long schedules at random. Under `cfg(offheap_counted)`, which only the member
//! `scaling` sets, they tell a simulated machine of each access. Otherwise they are std's and cost nothing.
//!
//! It also gives each thread a [`seat`], a small number by which it picks its shard.

#[cfg(not(any(offheap_loom, offheap_counted)))]
mod imp {
    pub(crate) use std::sync::atomic::{
        AtomicPtr, AtomicU16, AtomicU32, AtomicU64, AtomicU8, AtomicUsize, Ordering,
    };
    // Only where there is no `membarrier`.
    #[allow(unused_imports)]
    pub(crate) use std::sync::atomic::fence;
    pub(crate) use std::sync::{Mutex, MutexGuard};

    use std::cell::Cell;

    /// A cell shared between threads under a protocol; the closures are loom's way of seeing each access.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }

    thread_local! {
        static SEAT: Cell<usize> = const { Cell::new(NONE) };
        /// Frees the seat when the thread ends.
        static LEAVE: Leave = const { Leave };
    }

    /// No seat yet.
    const NONE: usize = usize::MAX;
    /// A thread that is about to end, or wants no seat: it shares a shard with whoever sits there.
    const STANDING: usize = usize::MAX >> 1;

    /// The lowest number that no other thread has at this time; it stays with the thread until it ends. (In the last steps of a
    /// thread, when its thread-locals are gone, it is a number beyond all others.)
    #[inline]
    pub(crate) fn seat() -> usize {
        let seat = SEAT.with(Cell::get);
        if seat != NONE {
            return seat;
        }
        take_seat()
    }

    /// This thread's seat; a number beyond all others where it has none yet.
    #[inline]
    pub(crate) fn seat_if_any() -> usize {
        SEAT.with(Cell::get)
    }

    /// This thread leaves the seats to others: it seldom has blocks in hand.
    pub(crate) fn stand() {
        SEAT.with(|own| {
            if own.get() == NONE {
                own.set(STANDING);
            }
        });
    }

    /// The seats that are taken.
    static TAKEN: Mutex<Vec<bool>> = Mutex::new(Vec::new());
    pub(crate) const NO_NUMBER: u32 = u32::MAX;

    thread_local! {
        static NUMBER: Cell<u32> = const { Cell::new(0) };
    }

    /// A number that is not zero and that this thread alone has, ever; [`NO_NUMBER`] once there are no more.
    #[inline]
    pub(crate) fn thread_number() -> u32 {
        let number = NUMBER.with(Cell::get);
        if number != 0 {
            return number;
        }
        assign_number()
    }

    #[cold]
    fn assign_number() -> u32 {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let next = |last: u32| (last < NO_NUMBER - 1).then(|| last + 1);
        let number = match LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(last) => last + 1,
            Err(_) => NO_NUMBER,
        };
        NUMBER.with(|n| n.set(number));
        number
    }

    #[cold]
    fn take_seat() -> usize {
        let seat = match LEAVE.try_with(|_| ()) {
            Ok(()) => {
                let mut taken = super::lock(&TAKEN);
                let free = taken.iter().position(|taken| !taken);
                let seat = free.unwrap_or_else(|| {
                    taken.push(false);
                    taken.len() - 1
                });
                taken[seat] = true;
                seat
            }
            Err(_) => STANDING,
        };
        SEAT.with(|own| own.set(seat));
        seat
    }

    struct Leave;

    impl Drop for Leave {
        fn drop(&mut self) {
            let seat = SEAT.with(|own| own.replace(STANDING));
            if let Some(taken) = super::lock(&TAKEN).get_mut(seat) {
                *taken = false;
            }
        }
    }

    /// Waits for another thread that is in the middle of a few instructions.
    pub(crate) fn spin_while(waiting: impl Fn() -> bool) {
        let mut spins = 0u32;
        while waiting() {
            spins += 1;
            if spins < 100 {
                std::hint::spin_loop();
            } else {
                // It was pre-empted there.
                std::thread::yield_now();
            }
        }
    }
}

#[cfg(offheap_loom)]
mod imp {
    #[cfg(not(offheap_shuttle))]
    use loom as checker;
    #[cfg(offheap_shuttle)]
    use shuttle as checker;

    pub(crate) use checker::sync::atomic::{
        fence, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, AtomicU8, AtomicUsize, Ordering,
    };
    pub(crate) use checker::sync::{Mutex, MutexGuard};
    #[cfg(not(offheap_shuttle))]
    pub(crate) use loom::cell::UnsafeCell;

    use std::cell::Cell;

    /// Shuttle knows no cells: this one finds two who are at it at once.
    #[cfg(offheap_shuttle)]
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(AtomicU32, std::cell::UnsafeCell<T>);

    #[cfg(offheap_shuttle)]
    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(AtomicU32::new(0), std::cell::UnsafeCell::new(value))
        }

        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            assert_eq!(self.0.swap(1, Ordering::SeqCst), 0, "two at once");
            let result = f(self.1.get());
            self.0.store(0, Ordering::SeqCst);
            result
        }
    }

    /// More than any model has shards, and a multiple of them.
    const SHARED: usize = 1 << 16;

    checker::thread_local! {
        static SEAT: Cell<usize> = Cell::new(SHARED);
    }

    /// Models choose their shard themselves, so that every execution takes the same path.
    pub(crate) fn seat() -> usize {
        SEAT.with(Cell::get)
    }

    pub(crate) fn seat_if_any() -> usize {
        seat()
    }

    /// This thread shares shard `n` with others.
    pub(crate) fn set_shard(n: usize) {
        SEAT.with(|seat| seat.set(SHARED + n));
    }

    /// This thread owns shard `n`; no other may while it does.
    pub(crate) fn own_shard(n: usize) {
        SEAT.with(|seat| seat.set(n));
    }

    pub(crate) fn spin_while(waiting: impl Fn() -> bool) {
        while waiting() {
            checker::thread::yield_now();
        }
    }

    checker::thread_local! {
        static NUMBER: Cell<u32> = Cell::new(NO_NUMBER);
    }

    pub(crate) const NO_NUMBER: u32 = u32::MAX;

    /// Threads of models have no number unless they are given one.
    pub(crate) fn thread_number() -> u32 {
        NUMBER.with(Cell::get)
    }

    pub(crate) fn set_number(n: u32) {
        NUMBER.with(|number| number.set(n));
    }
}

#[cfg(offheap_counted)]
#[path = "../scaling/sync.rs"]
mod imp;

#[cfg(offheap_counted)]
pub use imp::machine;
pub(crate) use imp::*;

#[cfg(all(test, not(offheap_loom)))]
thread_local! {
    /// How often this thread has taken a lock.
    pub(crate) static LOCKS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Locks, and ignores poison: no user code runs under our locks, and every critical section is complete or unstarted.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    #[cfg(all(test, not(offheap_loom)))]
    LOCKS.with(|locks| locks.set(locks.get() + 1));
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}
