//! What the models share: a tiny pool, ways to reserve from it, and the checker.

mod buffers;
mod closing;
mod hooks;
mod limits;
mod magazines;
mod pressure;
mod references;
mod waiters;
mod weak;

use std::future::poll_fn;
use std::panic::Location;
use std::pin::{pin, Pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::arena::Handle;
use crate::engine::{life, Claim, Config, Engine, HasEngine, Owned, Refused, Wait};

/// One page: the smallest block of the models' pools, which have whole pages only.
const PAGE: usize = 4096;

/// A handle to a pool, as `Pool` is one.
#[derive(Clone, Debug)]
struct Pool(Arc<Owned>);

impl HasEngine for Pool {
    fn engine(&self) -> &Engine {
        &self.0
    }
}

impl Pool {
    /// A pool of `pages` pages; its classes are whole pages.
    fn new(pages: u64) -> Pool {
        Pool::with(pages, pages, 1)
    }

    fn with(pages: u64, max_pages: u64, shards: usize) -> Pool {
        Pool::build(Pool::config(pages, max_pages, shards))
    }

    fn config(pages: u64, max_pages: u64, shards: usize) -> Config {
        Config {
            limit: pages * PAGE as u64,
            max_limit: max_pages * PAGE as u64,
            page_aligned: true,
            huge_pages: false,
            shards,
            membarrier: true,
            wipes: false,
            high_water: 1.0,
            floor: 0,
            injector: Default::default(),
        }
    }

    fn build(config: Config) -> Pool {
        Pool(Arc::new(Engine::build(config).expect("valid")))
    }

    /// A buffer without waiting.
    fn try_take(&self, n: usize) -> Option<Handle> {
        let block = self.engine().obtain(n).ok()?;
        Some(block.lease(n, Location::caller(), 0))
    }

    fn take(&self, n: usize) -> Handle {
        self.try_take(n).expect("the pool has room")
    }

    fn wait(&self, n: usize) -> Wait<Pool> {
        Wait::new(self.clone(), Claim::one(n, Location::caller()))
    }

    /// Waits on this thread. Loom reports a deadlock where the wake-up is lost.
    fn reserve(&self, n: usize) -> Result<Handle, Refused> {
        let wait = self.wait(n);
        loom::future::block_on(async move {
            let mut wait = pin!(wait);
            poll_fn(|cx| poll(wait.as_mut(), cx)).await
        })
    }

    /// Sets a whole pool's books against what the caller holds. Only at rest.
    fn check(&self, held: u64) {
        let engine = self.engine();
        assert_eq!(engine.live_estimate(), held, "live");
        assert!(engine.committed() <= engine.limit(), "limit");
        assert_eq!(engine.waiting(), (0, 0), "waiting");
    }
}

/// Polls a wait for one buffer.
fn poll(wait: Pin<&mut Wait<Pool>>, cx: &mut Context<'_>) -> Poll<Result<Handle, Refused>> {
    let mut got = None;
    let done = wait.into_ref().poll(cx, |granted| got = granted);
    done.map(|done| done.map(|()| got.expect("granted")))
}

/// Polls once and expects to wait.
fn park(wait: Pin<&mut Wait<Pool>>) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(poll(wait, &mut cx).is_pending());
}

/// Explores a model, at most `preemptions` pre-emptions deep, and says how much there was to explore. The environment can
/// not cut it short.
fn model(name: &str, preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let runs = Arc::new(AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.max_threads = 5;
    builder.max_branches = 20_000;
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.preemption_bound = Some(preemptions);
    builder.checkpoint_file = None;
    let started = Instant::now();
    builder.check({
        let runs = runs.clone();
        move || {
            runs.fetch_add(1, Ordering::Relaxed);
            life::take_alive();
            f();
            assert_eq!(life::take_alive(), 0, "pools that were not freed");
        }
    });
    let runs = runs.load(Ordering::Relaxed);
    println!("{name}: {runs} executions in {:.1?}", started.elapsed());
    assert!(runs > 1, "{name} explored nothing");
}
