//! Tests of what must not hang, without hanging themselves.

use std::panic::resume_unwind;
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Runs `test` on a thread of its own. The time is no measurement: it is far more than the slowest machine needs.
pub(crate) fn within<R: Send + 'static>(
    seconds: u64,
    test: impl FnOnce() -> R + Send + 'static,
) -> R {
    let (done, wait) = channel();
    let thread = thread::spawn(move || {
        let result = test();
        let _ = done.send(());
        result
    });
    if wait.recv_timeout(Duration::from_secs(seconds)) == Err(RecvTimeoutError::Timeout) {
        panic!("hangs: not done after {seconds} s");
    }
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}
