//! What the peers have to do, each scenario written once for all of them.

pub mod awaited;
pub mod contended;
pub mod handles;
pub mod pair;
pub mod pressed;
pub mod recovery;
pub mod start;
pub mod wake;

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

/// A runtime with `workers` worker threads.
pub fn runtime(workers: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_time()
        .build()
        .expect("threads")
}

/// A runtime that lives on the thread that blocks on it.
pub fn local_runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
}

/// Runs `f` as a task, so that it is on a worker as a user's code would be.
async fn on_worker<T: Send + 'static>(f: impl Future<Output = T> + Send + 'static) -> T {
    tokio::spawn(f).await.expect("no panic")
}
