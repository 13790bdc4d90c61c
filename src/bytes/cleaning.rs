//! What is to be done when the last handle has gone: hooks, tokens, and letting go on the spot.

use std::panic::Location;

use super::{DirectBytes, DirectBytesMut};
use crate::arena::Handle;
use crate::engine::Engine;
use crate::reclaim::{Hook, Job, ReferenceHandle};

/// What an explicit [`clean`](DirectBytes::clean) has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cleaned {
    /// This was the last handle: the hooks have run, and the memory can be reserved again.
    Now,
    /// Others share the block: it is cleaned when the last of them goes.
    Shared,
}

fn register(handle: Option<&Handle>, job: Job) {
    match handle {
        Some(handle) => Engine::of(handle).register(handle, job),
        // Without a block there is nothing to wait for.
        None => job.run_now(),
    }
}

fn hook(run: impl FnOnce(&mut [u8]) + Send + 'static, site: &'static Location<'static>) -> Job {
    let run = Box::new(run);
    Job::Hook(Hook { run, site })
}

impl DirectBytes {
    /// Has `hook` run when the block's last handle has gone, before the memory is used again: the JVM's `Cleaner`.
    ///
    /// It runs once, and sees the whole block, whatever part of it this handle is. The hooks of a block run in order of registration.
    /// They never run in a drop or under a lock, but on the reclaimer; where that is starved or gone, on a reservation that waits, in
    /// [`Pool::closed`](crate::Pool::closed), or on a thread of their own. Until they have run the block counts as live. A hook that
    /// panics is counted and [reported](crate::PoolBuilder::on_fault); the memory is reclaimed all the same.
    ///
    /// A buffer without memory (an empty one) is gone already: its hook runs at once.
    ///
    /// Costs an allocation and a short lock, and the block's last drop then takes a longer way.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
    /// let mut key = pool.try_copy_from_slice(b"a secret")?;
    /// key.on_clean(|memory| memory.fill(0));
    /// assert_eq!(key.clean(), offheap::Cleaned::Now);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn on_clean(&mut self, run: impl FnOnce(&mut [u8]) + Send + 'static) {
        register(self.handle.as_ref(), hook(run, Location::caller()));
    }

    /// Has `token` delivered to the handle's [queue](crate::ReferenceQueue) when the block's last handle has gone, its hooks have run, and
    /// the memory can be reserved again: the JVM's `PhantomReference`.
    ///
    /// A buffer without memory (an empty one) is gone already: its token is delivered at once.
    #[track_caller]
    pub fn notify<T: Send + 'static>(&self, queue: &ReferenceHandle<T>, token: T) {
        register(self.handle.as_ref(), queue.job(token, Location::caller()));
    }

    /// Lets go, and cleans on the spot where this was the last handle: when it answers [`Now`](Cleaned::Now), the hooks have run, on
    /// this thread, and the memory can be reserved again.
    pub fn clean(self) -> Cleaned {
        clean(self.handle)
    }

    /// A soft cache has this handle.
    #[cfg(feature = "cache")]
    pub(super) fn mark_soft(&self) {
        if let Some(handle) = &self.handle {
            handle.mark_soft();
        }
    }
}

impl DirectBytesMut {
    /// As [`DirectBytes::on_clean`].
    #[track_caller]
    pub fn on_clean(&mut self, run: impl FnOnce(&mut [u8]) + Send + 'static) {
        register(self.handle.as_ref(), hook(run, Location::caller()));
    }

    /// As [`DirectBytes::notify`].
    #[track_caller]
    pub fn notify<T: Send + 'static>(&self, queue: &ReferenceHandle<T>, token: T) {
        register(self.handle.as_ref(), queue.job(token, Location::caller()));
    }

    /// As [`DirectBytes::clean`].
    pub fn clean(self) -> Cleaned {
        clean(self.handle)
    }
}

fn clean(handle: Option<Handle>) -> Cleaned {
    // Without a block there is nothing to wait for.
    if handle.is_none_or(Engine::clean_now) {
        Cleaned::Now
    } else {
        Cleaned::Shared
    }
}
