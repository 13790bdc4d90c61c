//! Runs the reclaimer: as a task of the runtime in which the pool was built, or on a thread of its own.
//!
//! Whoever runs it holds a [`Watch`]. When the watch is dropped though the pool is still there (the runtime ended, or the
//! reclaimer panicked), it starts a thread to go on with. Where no thread can be had either, drops do the work.

use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use super::{Bell, FaultHandler, Next, Reclaimer};
use crate::engine::Counted;
use crate::pool::Inner;
use crate::reserve::unpark_this_thread;
use crate::sys::Injector;

/// A reclaimer that panics every time is a defect; the pool goes on without it.
const MAX_RESTARTS: u32 = 8;

/// What a reclaimer does by the clock.
#[derive(Debug, Clone)]
pub(crate) struct Habits {
    /// How long memory may be queued and unused.
    pub(crate) idle: Duration,
    /// What it has to put up with.
    pub(crate) injector: Injector,
    /// How often it publishes figures.
    #[cfg(feature = "metrics")]
    pub(crate) publish: Option<Duration>,
}

/// Starts the reclaimer of a new pool.
pub(crate) fn start(pool: &Arc<Inner>, habits: Habits, faults: Option<FaultHandler>) {
    pool.engine().set_helpers(linger, faults);
    let watch = Watch::new(Arc::downgrade(pool), pool.engine().bell().clone(), habits);
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(watch.run_in_task())),
        Err(_) => watch.run_on_thread(),
    }
}

/// Cleans what there is on a thread that ends when it is done.
fn linger(engine: Counted) {
    struct Job(Option<Counted>);

    impl Drop for Job {
        fn drop(&mut self) {
            if let Some(engine) = self.0.take() {
                engine.give_up();
            }
        }
    }

    let mut job = Job(Some(engine));
    let name = "offheap-cleaner".to_owned();
    // Where the thread can not be had, the closure is dropped and the job with it.
    let _ = thread::Builder::new().name(name).spawn(move || {
        crate::sync::stand();
        if let Some(engine) = job.0.take() {
            engine.linger();
        }
    });
}

/// Where the reclaimer runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Task,
    /// On its way to a thread, which may not be had.
    Spawning,
    Thread,
}

struct Watch {
    pool: Weak<Inner>,
    bell: Arc<Bell>,
    habits: Habits,
    reclaimer: Option<Reclaimer>,
    place: Place,
    /// How often it was started again after a panic.
    restarts: u32,
    #[cfg(feature = "tracing")]
    report: Option<Instant>,
    #[cfg(feature = "metrics")]
    publish: Option<Instant>,
}

impl Watch {
    fn new(pool: Weak<Inner>, bell: Arc<Bell>, habits: Habits) -> Self {
        bell.set_listening(true);
        Watch {
            pool,
            bell,
            habits,
            reclaimer: None,
            place: Place::Task,
            restarts: 0,
            #[cfg(feature = "tracing")]
            report: None,
            #[cfg(feature = "metrics")]
            publish: None,
        }
    }

    /// One turn; `None` when the pool is gone.
    fn turn(&mut self, now: Instant) -> Option<Next> {
        let pool = self.pool.upgrade()?;
        let engine = pool.engine();
        self.habits.injector.turn();
        let reclaimer = self
            .reclaimer
            .get_or_insert_with(|| Reclaimer::new(engine, self.habits.idle));
        let next = reclaimer.turn(engine, now);
        #[cfg(feature = "metrics")]
        let next = self.publish(&pool, next, now);
        #[cfg(feature = "tracing")]
        if engine.is_awaited() {
            return Some(self.report(&pool, next, now));
        }
        Some(next)
    }

    /// Publishes figures when it is time to.
    #[cfg(feature = "metrics")]
    fn publish(&mut self, pool: &Inner, next: Next, now: Instant) -> Next {
        use std::panic::{catch_unwind, AssertUnwindSafe};

        let Some(every) = self.habits.publish else {
            return next;
        };
        let mut due = *self.publish.get_or_insert(now);
        if now >= due {
            due = now + every;
            // The recorder is user code.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| pool.publish_metrics())) {
                crate::budget::discard(payload);
                pool.engine().hook_panicked("metrics recorder");
            }
        }
        self.publish = Some(due);
        next.at_latest(due)
    }

    /// Tells, once a second, who keeps a closed pool from being done.
    #[cfg(feature = "tracing")]
    fn report(&mut self, pool: &Inner, next: Next, now: Instant) -> Next {
        const EVERY: Duration = Duration::from_secs(1);
        let due = *self.report.get_or_insert(now + EVERY);
        let due = if now < due {
            due
        } else {
            let holders = crate::observe::holders(pool.engine());
            tracing::warn!(
                pool = &**pool.name(),
                buffers = holders.iter().map(|holder| holder.count).sum::<u64>(),
                bytes = holders.iter().map(|holder| holder.bytes).sum::<u64>(),
                "closed, and waiting for its last buffers"
            );
            for holder in holders.iter().take(10) {
                tracing::warn!(pool = &**pool.name(), "held by {holder}");
            }
            now + EVERY
        };
        self.report = Some(due);
        next.at_latest(due)
    }

    async fn run_in_task(mut self) {
        let (bell, injector) = (self.bell.clone(), self.habits.injector.clone());
        loop {
            let delay = poll_fn(|cx| injector.poll_turn(cx)).await;
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            // The runtime's clock, which a test may have stopped.
            let Some(next) = self.turn(tokio::time::Instant::now().into_std()) else {
                return;
            };
            let rung = poll_fn(|cx| match injector.poll_turn(cx) {
                Poll::Ready(_) => bell.poll_rung(cx),
                Poll::Pending => Poll::Pending,
            });
            match next {
                Next::Soon => tokio::task::yield_now().await,
                Next::Rung => rung.await,
                Next::At(time) => drop(tokio::time::timeout_at(time.into(), rung).await),
            }
        }
    }

    fn run_on_thread(mut self) {
        self.place = Place::Spawning;
        let name = "offheap-reclaimer".to_owned();
        // Where the thread can not be had, the closure is dropped and the watch with it: see `Drop`.
        let _ = thread::Builder::new().name(name).spawn(move || {
            crate::sync::stand();
            let mut watch = self;
            watch.place = Place::Thread;
            watch.bell.set_threaded();
            watch.await_turn();
            while let Some(next) = watch.turn(Instant::now()) {
                watch.wait(next);
                watch.await_turn();
            }
        });
    }

    /// Returns when the next turn may be taken: at once, unless a test holds it up.
    fn await_turn(&self) {
        if !self.habits.injector.is_there() {
            return;
        }
        let waker = unpark_this_thread();
        let mut cx = Context::from_waker(&waker);
        loop {
            match self.habits.injector.poll_turn(&mut cx) {
                Poll::Pending => thread::park(),
                Poll::Ready(delay) if delay.is_zero() => return,
                Poll::Ready(delay) => return thread::sleep(delay),
            }
        }
    }

    fn wait(&self, next: Next) {
        if next == Next::Soon {
            return thread::yield_now();
        }
        let waker = unpark_this_thread();
        let mut cx = Context::from_waker(&waker);
        while self.habits.injector.poll_turn(&mut cx).is_pending()
            || self.bell.poll_rung(&mut cx).is_pending()
        {
            match next {
                Next::Soon => return,
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
        if self.pool.strong_count() == 0 {
            return;
        }
        let panicked = thread::panicking();
        let given_up = panicked && self.restarts == MAX_RESTARTS;
        if given_up || self.place == Place::Spawning {
            // From now on drops see that nobody listens; those that came before did not.
            if let Some(pool) = self.pool.upgrade() {
                pool.engine().rescue();
            }
            return;
        }
        let mut next = Watch::new(self.pool.clone(), self.bell.clone(), self.habits.clone());
        next.restarts = self.restarts + u32::from(panicked);
        next.run_on_thread();
    }
}
