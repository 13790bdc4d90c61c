//! Eight threads that do everything at once.

use std::future::poll_fn;
use std::panic::Location;
use std::pin::{pin, Pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use shuttle::rand::{thread_rng, Rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::Mutex;
use shuttle::thread;
use shuttle::{Config, Runner};

use crate::arena::Handle;
use crate::engine::{life, Claim, Config as PoolConfig, Engine, HasEngine, Owned, Refused, Wait};
use crate::sync::{own_shard, set_number, set_shard};

/// One page: the smallest block of these pools.
const PAGE: usize = 4096;
const THREADS: usize = 8;
/// What each thread does before it ends.
const STEPS: usize = 6;
/// The limit, while it is not changed, and how far it goes down and up, in pages.
const LIMIT: u64 = 4;
const LEAST: u64 = 2;
const MOST: u64 = 6;

#[derive(Clone, Debug)]
struct Pool(Arc<Owned>);

impl HasEngine for Pool {
    fn engine(&self) -> &Engine {
        &self.0
    }
}

impl Pool {
    fn new() -> Pool {
        let config = PoolConfig {
            limit: LIMIT * PAGE as u64,
            max_limit: MOST * PAGE as u64,
            page_aligned: true,
            huge_pages: false,
            shards: 2,
            membarrier: true,
            wipes: false,
            high_water: 1.0,
            floor: 0,
            injector: Default::default(),
        };
        Pool(Arc::new(Engine::build(config).expect("valid")))
    }

    fn try_take(&self, n: usize) -> Result<Handle, Refused> {
        let block = self.engine().obtain(n)?;
        Ok(block.lease(n, Location::caller(), 0))
    }

    fn wait(&self, n: usize) -> Pin<Box<Wait<Pool>>> {
        Box::pin(Wait::new(self.clone(), Claim::one(n, Location::caller())))
    }

    /// Shuttle reports a deadlock where a wake-up is lost.
    fn reserve(&self, n: usize) -> Result<Handle, Refused> {
        let mut wait = self.wait(n);
        shuttle::future::block_on(poll_fn(move |cx| poll(wait.as_mut(), cx)))
    }
}

fn poll(wait: Pin<&mut Wait<Pool>>, cx: &mut Context<'_>) -> Poll<Result<Handle, Refused>> {
    let mut got = None;
    let done = wait.into_ref().poll(cx, |granted| got = granted);
    done.map(|done| done.map(|()| got.expect("granted")))
}

/// Whether there is a next step; none on a closed pool.
enum Go {
    On,
    Stop,
}

/// One of the threads.
struct Actor {
    pool: Pool,
    /// Handles that others are to drop. Who is about to wait empties it first, and so does who ends; so nobody waits for
    /// what lies there.
    mailbox: Arc<Mutex<Vec<Handle>>>,
    number: u8,
    closes: bool,
}

impl Actor {
    fn empty_mailbox(&self) {
        let handles = std::mem::take(&mut *self.mailbox.lock().unwrap());
        drop(handles);
    }

    /// Uses a block as someone who has it alone, and lets go of it in one of several ways.
    fn use_up(&self, handle: Handle) {
        let (start, size) = handle.memory();
        assert!(self.pool.engine().committed() <= MOST * PAGE as u64);
        for at in [0, size - 1] {
            // SAFETY: both are in the block, and this is its only handle.
            unsafe { start.as_ptr().add(at).write_volatile(self.number) };
        }
        thread::yield_now();
        for at in [0, size - 1] {
            // SAFETY: as above.
            let found = unsafe { start.as_ptr().add(at).read_volatile() };
            assert_eq!(found, self.number, "someone else has this block");
        }
        match thread_rng().gen_range(0..5) {
            0 => {
                let more = [handle.clone(), handle.clone()];
                self.mailbox.lock().unwrap().extend(more);
            }
            1 => self.mailbox.lock().unwrap().push(handle),
            2 => {
                let weak = handle.downgrade();
                let other = thread::spawn(move || drop(handle));
                // A handle, or nothing; never someone else's block.
                drop(weak.upgrade());
                other.join().unwrap();
            }
            3 => {
                let other = handle.clone();
                let third = handle.part(1);
                drop(handle);
                thread::yield_now();
                drop(other);
                drop(third);
            }
            _ => drop(handle),
        }
    }

    fn served(&self, result: Result<Handle, Refused>) -> Go {
        match result {
            Ok(handle) => self.use_up(handle),
            Err(Refused::Closed) if self.closes => return Go::Stop,
            Err(refused) => panic!("{refused:?}"),
        }
        Go::On
    }

    fn step(&self) -> Go {
        let engine = self.pool.engine();
        let n = PAGE * thread_rng().gen_range(1..=LEAST as usize);
        match thread_rng().gen_range(0..10) {
            0..=3 => {
                self.empty_mailbox();
                return self.served(self.pool.reserve(n));
            }
            4 => match self.pool.try_take(n) {
                Err(Refused::Full) => {}
                taken => return self.served(taken),
            },
            // Goes away in the queue, or after its grant.
            5 | 6 => {
                let mut cx = Context::from_waker(Waker::noop());
                let mut wait = self.pool.wait(n);
                for _ in 0..thread_rng().gen_range(1..4) {
                    if let Poll::Ready(result) = poll(wait.as_mut(), &mut cx) {
                        return self.served(result);
                    }
                    thread::yield_now();
                }
            }
            7 => {
                let pages = thread_rng().gen_range(LEAST..=MOST);
                engine.set_limit(pages * PAGE as u64);
            }
            8 => _ = engine.trim(),
            _ => self.empty_mailbox(),
        }
        Go::On
    }

    fn run(self) {
        // Two have shards of their own, the others share them.
        match usize::from(self.number) {
            n @ 0..2 => own_shard(n),
            n => set_shard(n % 2),
        }
        set_number(u32::from(self.number) + 1);
        for step in 0..STEPS {
            if self.closes && self.number == 0 && step == STEPS / 2 {
                self.pool.engine().close();
            }
            if let Go::Stop = self.step() {
                break;
            }
        }
        self.empty_mailbox();
    }
}

fn everything(closes: bool) {
    let pool = Pool::new();
    let mailbox = Arc::new(Mutex::new(Vec::new()));
    let threads: Vec<_> = (0..THREADS as u8)
        .map(|number| {
            let actor = Actor {
                pool: pool.clone(),
                mailbox: mailbox.clone(),
                number,
                closes,
            };
            thread::spawn(move || actor.run())
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let engine = pool.engine();
    assert_eq!(engine.waiting(), (0, 0), "waiting");
    assert_eq!(engine.live_estimate(), 0, "live");
    engine.set_limit(MOST * PAGE as u64);
    engine.trim();
    assert_eq!(engine.committed(), 0, "committed");
    if !closes {
        drop(pool.try_take(MOST as usize * PAGE).expect("all of it"));
    }
}

fn schedules() -> usize {
    let given = std::env::var("OFFHEAP_SCHEDULES").ok();
    given.map_or(2_500, |text| text.parse().expect("a number"))
}

fn explore(name: &str, scheduler: impl Scheduler + 'static, f: fn()) {
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    let started = Instant::now();
    let runs = Runner::new(scheduler, config).run(move || {
        life::take_alive();
        f();
        assert_eq!(life::take_alive(), 0, "pools that were not freed");
    });
    println!("{name}: {runs} schedules in {:.1?}", started.elapsed());
    assert_eq!(runs, schedules(), "{name}");
}

/// Reservations, cancellations, drops elsewhere, weak handles, limits up and down.
///
/// Seen to fail when a cancelled grant is not passed on.
#[test]
fn everything_at_once() {
    explore(
        "everything_at_once",
        RandomScheduler::new(schedules()),
        || everything(false),
    );
}

/// The same with few changes of thread, at the worst times.
///
/// Seen to fail when a waiter parks without shutting the magazines.
#[test]
fn everything_at_once_by_priorities() {
    let scheduler = PctScheduler::new(5, schedules());
    explore("everything_at_once_by_priorities", scheduler, || {
        everything(false);
    });
}

/// The same, and someone closes the pool.
///
/// Seen to fail when close leaves the waiters waiting.
#[test]
fn everything_and_close() {
    let scheduler = RandomScheduler::new(schedules());
    explore("everything_and_close", scheduler, || everything(true));
}

/// Seen to fail when whoever stood behind a cancelled waiter is forgotten.
#[test]
fn everything_and_close_by_priorities() {
    let scheduler = PctScheduler::new(5, schedules());
    explore("everything_and_close_by_priorities", scheduler, || {
        everything(true);
    });
}
