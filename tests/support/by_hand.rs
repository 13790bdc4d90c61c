//! Futures that are polled by hand, so that one thread decides what happens when.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// A future, and whether it was woken since it was last asked.
pub(crate) struct ByHand<F: ?Sized> {
    woken: Arc<Woken>,
    future: Pin<Box<F>>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl<F: Future + ?Sized> ByHand<F> {
    pub(crate) fn new(future: Pin<Box<F>>) -> Self {
        ByHand {
            woken: Arc::new(Woken(AtomicBool::new(false))),
            future,
        }
    }

    pub(crate) fn poll(&mut self) -> Poll<F::Output> {
        let waker = Waker::from(self.woken.clone());
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Whether it was woken since the last answer.
    #[allow(dead_code)]
    pub(crate) fn take_woken(&self) -> bool {
        self.woken.0.swap(false, Ordering::SeqCst)
    }
}
