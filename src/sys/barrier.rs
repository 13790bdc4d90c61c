//! A fence that costs only one of its two sides.
//!
//! Two threads that each write one variable and then read the other's need a full fence between the two steps, or both
//! may miss what the other wrote. Where one side is hot and the other is rare, the hot side can do with [`light`], which
//! only keeps the compiler from reordering, if the rare side uses [`heavy`]: `membarrier` makes every running thread of
//! the process pass a full fence before it returns (16 µs when others run, 0.2 µs when none does).
//!
//! The idea is that of asymmetric fences in liburcu and folly. Where the system has no such call, [`available`] says
//! so, and whoever asked keeps to atomics that work without. Under loom both sides are full fences; ThreadSanitizer, which
//! does not know the call, has to do without.

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(any(offheap_loom, offheap_counted)),
    not(any(offheap_heap, offheap_tsan))
))]
mod imp {
    use std::sync::atomic::{compiler_fence, Ordering};
    use std::sync::OnceLock;

    use rustix::thread::{membarrier, membarrier_query, MembarrierCommand, MembarrierQuery};

    pub(crate) fn available() -> bool {
        static REGISTERED: OnceLock<bool> = OnceLock::new();
        *REGISTERED.get_or_init(|| {
            membarrier_query().contains(MembarrierQuery::PRIVATE_EXPEDITED)
                && membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
        })
    }

    #[inline]
    pub(crate) fn light() {
        compiler_fence(Ordering::SeqCst);
    }

    #[cold]
    pub(crate) fn heavy() {
        if membarrier(MembarrierCommand::PrivateExpedited).is_ok() {
            return;
        }
        // A child of `fork` may have to register again.
        let again = membarrier(MembarrierCommand::RegisterPrivateExpedited)
            .and_then(|()| membarrier(MembarrierCommand::PrivateExpedited));
        if let Err(error) = again {
            // The kernel had promised it. Going on would let two threads have the same block.
            eprintln!(
                "offheap: membarrier failed ({error}) though it was registered when the pool was built, so a seccomp \
                 filter must have come since; allow the call, or build pools with `PoolBuilder::membarrier(false)`"
            );
            std::process::abort();
        }
    }
}

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(any(offheap_loom, offheap_counted)),
    not(any(offheap_heap, offheap_tsan))
)))]
mod imp {
    use crate::sync::{fence, Ordering};

    pub(crate) fn available() -> bool {
        cfg!(any(offheap_loom, offheap_counted))
    }

    #[inline]
    pub(crate) fn light() {
        fence(Ordering::SeqCst);
    }

    pub(crate) fn heavy() {
        fence(Ordering::SeqCst);
    }
}

pub(crate) use imp::{available, heavy, light};
