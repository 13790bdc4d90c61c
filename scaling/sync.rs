//! Atomics, lock and cell that tell the simulated [`machine`] of each access, and the seats of its cores.

#[path = "machine.rs"]
pub mod machine;

use std::ops::{Deref, DerefMut};
use std::sync::atomic;
pub(crate) use std::sync::atomic::Ordering;
use std::sync::{LockResult, PoisonError};

use machine::Access;

macro_rules! counted {
    ($($name:ident: $int:ty),*) => {$(
        /// An atomic that is counted.
        #[derive(Debug, Default)]
        pub struct $name(atomic::$name);

        impl $name {
            pub const fn new(value: $int) -> Self {
                Self(atomic::$name::new(value))
            }

            #[track_caller]
            pub fn load(&self, order: Ordering) -> $int {
                machine::access(self, Access::Read);
                self.0.load(order)
            }

            #[track_caller]
            pub fn store(&self, value: $int, order: Ordering) {
                machine::access(self, Access::Write);
                self.0.store(value, order);
            }

            counted!(@change swap, fetch_add, fetch_sub, fetch_max, fetch_or, fetch_and: $int);

            #[track_caller]
            pub fn compare_exchange(
                &self,
                old: $int,
                new: $int,
                done: Ordering,
                failed: Ordering,
            ) -> Result<$int, $int> {
                machine::access(self, Access::Change);
                self.0.compare_exchange(old, new, done, failed)
            }

            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                old: $int,
                new: $int,
                done: Ordering,
                failed: Ordering,
            ) -> Result<$int, $int> {
                // One that never fails without a reason, so that every run is the same.
                self.compare_exchange(old, new, done, failed)
            }

            #[track_caller]
            pub fn fetch_update(
                &self,
                done: Ordering,
                failed: Ordering,
                f: impl FnMut($int) -> Option<$int>,
            ) -> Result<$int, $int> {
                machine::access(self, Access::Change);
                self.0.fetch_update(done, failed, f)
            }
        }
    )*};
    (@change $($verb:ident),*: $int:ty) => {$(
        #[track_caller]
        pub fn $verb(&self, value: $int, order: Ordering) -> $int {
            machine::access(self, Access::Change);
            self.0.$verb(value, order)
        }
    )*};
}

counted!(AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);

/// A pointer that is counted.
#[derive(Debug)]
pub(crate) struct AtomicPtr<T>(atomic::AtomicPtr<T>);

impl<T> AtomicPtr<T> {
    pub(crate) const fn new(value: *mut T) -> Self {
        Self(atomic::AtomicPtr::new(value))
    }

    #[track_caller]
    pub(crate) fn load(&self, order: Ordering) -> *mut T {
        machine::access(self, Access::Read);
        self.0.load(order)
    }

    #[track_caller]
    pub(crate) fn store(&self, value: *mut T, order: Ordering) {
        machine::access(self, Access::Write);
        self.0.store(value, order);
    }
}

/// Only for the side of a fence that costs nothing, and for the one that is off every path that is simulated.
pub(crate) fn fence(_: Ordering) {}

/// A lock that is counted, with all that it guards.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    guard: std::sync::MutexGuard<'a, T>,
    lock: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        machine::lock(self, std::any::type_name::<T>());
        let guard = |guard| MutexGuard { guard, lock: self };
        match self.0.lock() {
            Ok(inner) => Ok(guard(inner)),
            Err(poisoned) => Err(PoisonError::new(guard(poisoned.into_inner()))),
        }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        machine::unlock(self.lock);
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// A cell whose whole contents are counted.
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[track_caller]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        machine::access(self, Access::Use);
        f(self.0.get())
    }
}

pub(crate) const NO_NUMBER: u32 = u32::MAX;

/// Each core is one thread.
pub(crate) fn seat() -> usize {
    machine::core()
}

pub(crate) fn seat_if_any() -> usize {
    machine::core()
}

pub(crate) fn stand() {}

pub(crate) fn thread_number() -> u32 {
    machine::core() as u32 + 1
}

/// One core at a time is at work, and never in the middle of anything.
pub(crate) fn spin_while(waiting: impl Fn() -> bool) {
    assert!(!waiting(), "nobody else will run");
}
