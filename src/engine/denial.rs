//! Reservations that are refused because a test wants it so. Without the feature `test-util` nothing is ever denied, and all of
//! this is gone.
//!
//! A pool that may deny keeps its classes shut, as one does that is asleep: so no magazine serves a reservation that was not asked.
//! One that waits joins the queue without being served there, and is called; then it, or anyone who comes by, sees to the queue.

use super::claim::Claim;
use super::{Engine, Refused};
use crate::arena::Block;
use crate::sync::lock;

impl Engine {
    /// [`obtain`](Engine::obtain) for those who do not wait, and may be denied.
    pub(crate) fn try_obtain(&self, n: usize) -> Result<Block, Refused> {
        match self.obtain_fast(n) {
            Some(block) => Ok(block),
            None => self.try_obtain_slow(n),
        }
    }

    /// [`obtain_slow`](Engine::obtain_slow) for those who do not wait, and may be denied.
    pub(crate) fn try_obtain_slow(&self, n: usize) -> Result<Block, Refused> {
        if self.injector.may_deny() && !self.is_closed() && self.class_for(n, 0).is_some() {
            return match self.injector.denies() {
                true => Err(Refused::Full),
                false => self.obtain_slow(n),
            };
        }
        self.obtain_slow(n)
    }

    /// Whether a claim that could be served is to wait all the same.
    pub(super) fn denies(&self, claim: &mut Claim) -> bool {
        if !self.injector.may_deny() {
            return false;
        }
        claim.plan(self.arena());
        claim.wants().is_some() && !self.is_closed() && self.fits(claim) && self.injector.denies()
    }

    /// From now on every reservation is asked.
    #[cfg(feature = "test-util")]
    pub(crate) fn shut_to_deny(&self) {
        self.locked(|state| self.shut_all(state));
    }

    /// Serves those who joined the queue though there was memory.
    pub(crate) fn serve_denied(&self) {
        if self.injector.is_there() {
            let state = lock(&self.state);
            self.conclude(state);
        }
    }
}
