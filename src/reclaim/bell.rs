//! The bell: how the reclaimer is told that there is something to do.
//!
//! Ringing is one swap when the bell is already rung, and otherwise wakes whoever listens: a task or a thread, the bell
//! does not care. It also knows whether anyone listens at all, so that a drop can do the work itself when nobody does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    listening: AtomicBool,
    /// Who listens has a thread to itself, and so always gets its turn.
    threaded: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Whether the bell was rung since the last answer.
    pub(crate) fn poll_rung(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.rung.swap(false, Ordering::AcqRel) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Whether a ring has not been answered yet.
    pub(crate) fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    /// Whether whoever listens may be kept from answering by others: a ring has not been answered, and it depends on a runtime.
    pub(crate) fn may_be_starved(&self) -> bool {
        self.is_rung() && !self.threaded.load(Ordering::Acquire)
    }

    pub(crate) fn set_threaded(&self) {
        self.threaded.store(true, Ordering::Release);
    }

    /// Answers what it was before.
    pub(crate) fn set_listening(&self, listening: bool) -> bool {
        self.listening.swap(listening, Ordering::AcqRel)
    }
}
