//! std or loom, nothing else.
//!
//! The concurrent core takes its atomics, its lock and its cell from here. Under `cfg(offheap_loom)`, which only
//! the `loom-tests` member sets, they are loom's and every interleaving can be explored; otherwise they are std's
//! and cost nothing.

#[cfg(not(offheap_loom))]
mod imp {
    pub(crate) use std::sync::atomic::{
        AtomicPtr, AtomicU32, AtomicU64, AtomicU8, AtomicUsize, Ordering,
    };
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
        static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    /// A small number that stays with this thread; consecutive threads get consecutive numbers.
    #[inline]
    pub(crate) fn shard_hint() -> usize {
        let hint = SHARD.with(Cell::get);
        if hint != usize::MAX {
            return hint;
        }
        assign_shard()
    }

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
    fn assign_shard() -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let hint = NEXT.fetch_add(1, Ordering::Relaxed) & (usize::MAX >> 1);
        SHARD.with(|s| s.set(hint));
        hint
    }
}

#[cfg(offheap_loom)]
mod imp {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::atomic::{
        AtomicPtr, AtomicU32, AtomicU64, AtomicU8, AtomicUsize, Ordering,
    };
    pub(crate) use loom::sync::{Mutex, MutexGuard};

    use std::cell::Cell;

    loom::thread_local! {
        static SHARD: Cell<usize> = Cell::new(0);
    }

    /// Models choose their shard themselves, so that every execution takes the same path.
    pub(crate) fn shard_hint() -> usize {
        SHARD.with(Cell::get)
    }

    pub(crate) fn set_shard(n: usize) {
        SHARD.with(|s| s.set(n));
    }

    loom::thread_local! {
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

pub(crate) use imp::*;

/// Locks, and ignores poison: no user code runs under our locks, and every critical section is complete or unstarted.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}
