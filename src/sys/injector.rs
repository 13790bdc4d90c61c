//! What a test has asked to go wrong; nothing at all, not even a byte, without the feature `test-util`.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

/// The system calls that can be made to fail.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "test-util"), allow(dead_code))]
pub(crate) enum Call {
    /// Reserving address space.
    Mmap,
    /// Opening memory.
    Mprotect,
    /// Giving memory back.
    Madvise,
}

#[cfg(feature = "test-util")]
mod imp {
    use super::*;
    use crate::test_util::{Faults, Point};

    #[derive(Debug, Clone, Default)]
    pub(crate) struct Injector(Option<Faults>);

    impl Injector {
        pub(crate) fn new(faults: Option<Faults>) -> Self {
            Injector(faults)
        }

        fn strikes(&self, point: Point) -> bool {
            self.0.as_ref().is_some_and(|faults| faults.strikes(point))
        }

        pub(crate) fn call(&self, call: Call) -> io::Result<()> {
            let point = match call {
                Call::Mmap => Point::Mmap,
                Call::Mprotect => Point::Mprotect,
                Call::Madvise => Point::Madvise,
            };
            if self.strikes(point) {
                return Err(super::refusal(call));
            }
            Ok(())
        }

        pub(crate) fn denies(&self) -> bool {
            self.strikes(Point::Reserve)
        }

        pub(crate) fn may_deny(&self) -> bool {
            let faults = self.0.as_ref();
            faults.is_some_and(|faults| faults.is_set(Point::Reserve))
        }

        pub(crate) fn is_there(&self) -> bool {
            self.0.is_some()
        }

        pub(crate) fn turn(&self) {
            assert!(!self.strikes(Point::Turn), "a fault that was asked for");
        }

        pub(crate) fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<Duration> {
            match &self.0 {
                Some(faults) => faults.poll_turn(cx),
                None => Poll::Ready(Duration::ZERO),
            }
        }
    }
}

#[cfg(not(feature = "test-util"))]
mod imp {
    use super::*;

    #[derive(Debug, Clone, Default)]
    pub(crate) struct Injector;

    impl Injector {
        /// Fails where a test wants this call to fail.
        #[inline(always)]
        pub(crate) fn call(&self, _: Call) -> io::Result<()> {
            Ok(())
        }

        /// Whether this reservation is denied.
        #[inline(always)]
        pub(crate) fn denies(&self) -> bool {
            false
        }

        /// Whether any reservation may be denied at this time.
        #[inline(always)]
        pub(crate) fn may_deny(&self) -> bool {
            false
        }

        /// Whether anything may ever go wrong on purpose.
        #[inline(always)]
        pub(crate) fn is_there(&self) -> bool {
            false
        }

        /// A turn of the reclaimer begins: panics where a test wants it to.
        #[inline(always)]
        pub(crate) fn turn(&self) {}

        /// How long the reclaimer's next turn is to be held up, once it may have one.
        #[inline(always)]
        pub(crate) fn poll_turn(&self, _: &mut Context<'_>) -> Poll<Duration> {
            Poll::Ready(Duration::ZERO)
        }
    }
}

pub(crate) use imp::Injector;

/// What the system says in such a case.
#[cfg(all(feature = "test-util", unix))]
fn refusal(call: Call) -> io::Error {
    use rustix::io::Errno;

    match call {
        Call::Mmap | Call::Mprotect => Errno::NOMEM.into(),
        Call::Madvise => Errno::INVAL.into(),
    }
}

#[cfg(all(feature = "test-util", not(unix)))]
fn refusal(_: Call) -> io::Error {
    io::ErrorKind::OutOfMemory.into()
}
