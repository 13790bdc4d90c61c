//! A pool whose reclaimer never gets a turn.

use offheap::{Pool, PoolBuilder};
use tokio::runtime::{Builder, Runtime};

/// The reclaimer is a task of a runtime that never runs, so that the test alone decides what happens. Keep the runtime until
/// the pool is gone.
pub(crate) fn starved(builder: PoolBuilder) -> (Pool, Runtime) {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let guard = runtime.enter();
    let pool = builder.build().unwrap();
    drop(guard);
    (pool, runtime)
}
