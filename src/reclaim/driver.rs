//! Runs the reclaimer: as a task of the runtime in which the pool was built, or on a thread of its own.
//!
//! Whoever runs it holds a [`Watch`]. When the watch is dropped though the pool is still there (the runtime ended, or the
//! reclaimer panicked), it starts a thread to go on with. Where no thread can be had either, drops do the work.

use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use super::{Bell, Next, Reclaimer};
use crate::pool::Inner;
use crate::reserve::unpark_this_thread;

/// Starts the reclaimer of a new pool.
pub(crate) fn start(pool: &Arc<Inner>, idle: Duration) {
    let watch = Watch::new(Arc::downgrade(pool), pool.engine().bell().clone(), idle);
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(watch.run_in_task())),
        Err(_) => watch.run_on_thread(),
    }
}

struct Watch {
    pool: Weak<Inner>,
    bell: Arc<Bell>,
    idle: Duration,
    reclaimer: Option<Reclaimer>,
}

impl Watch {
    fn new(pool: Weak<Inner>, bell: Arc<Bell>, idle: Duration) -> Self {
        bell.set_listening(true);
        Watch {
            pool,
            bell,
            idle,
            reclaimer: None,
        }
    }

    /// One turn; `None` when the pool is gone.
    fn turn(&mut self) -> Option<Next> {
        let pool = self.pool.upgrade()?;
        let engine = pool.engine();
        let reclaimer = self
            .reclaimer
            .get_or_insert_with(|| Reclaimer::new(engine, self.idle));
        Some(reclaimer.turn(engine))
    }

    async fn run_in_task(mut self) {
        let bell = self.bell.clone();
        while let Some(next) = self.turn() {
            let rung = poll_fn(|cx| bell.poll_rung(cx));
            match next {
                Next::Rung => rung.await,
                Next::At(time) => drop(tokio::time::timeout_at(time.into(), rung).await),
            }
        }
    }

    fn run_on_thread(self) {
        let name = "offheap-reclaimer".to_owned();
        // Where the thread can not be had, the closure is dropped and the watch with it: see `Drop`.
        let _ = thread::Builder::new().name(name).spawn(move || {
            let mut watch = self;
            while let Some(next) = watch.turn() {
                watch.wait(next);
            }
        });
    }

    fn wait(&self, next: Next) {
        let waker = unpark_this_thread();
        let mut cx = Context::from_waker(&waker);
        while self.bell.poll_rung(&mut cx) == Poll::Pending {
            match next {
                Next::Rung => thread::park(),
                Next::At(time) => match time.checked_duration_since(Instant::now()) {
                    Some(rest) if !rest.is_zero() => thread::park_timeout(rest),
                    _ => return,
                },
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.bell.set_listening(false);
        if self.pool.strong_count() == 0 || self.reclaimer.is_none() {
            // The pool is gone, or the reclaimer never took a turn: a thread would fare no better.
            return;
        }
        Watch::new(self.pool.clone(), self.bell.clone(), self.idle).run_on_thread();
    }
}
