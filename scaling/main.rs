//! Simulates 1 to 128 cores at work with `offheap`, and writes what it counted into `docs/scaling.md`.
//!
//! `cargo run --release -p offheap-scaling` prints the tables; with `-- --write docs/scaling.md` they go into the page. Every run is the
//! same.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use offheap_counted::machine::{self, AtomicU64, Counted};
use offheap_counted::{DirectBytesMut, Pool, ReserveOwned};

const CORES: [usize; 6] = [2, 8, 16, 32, 64, 128];
const SIZE: usize = 4096;
/// Of a pair's own instructions, half for the reservation and half for the drop: 8 ns, what a pair takes on one core.
const HALF: u64 = 4_000;
/// How long a buffer is held under pressure: 10 µs, in which its core does other things.
const HOLD: u64 = 10_000_000;
/// Tasks of each core under pressure; there is room for one of them.
const TASKS: usize = 8;
const PAIRS: usize = 1_000;
/// Until every thread has its own stack.
const WARM_UP: usize = 1_000;
/// The same where blocks wander from core to core, until there are enough of them everywhere.
const LONG_WARM_UP: usize = 32_000;
const WINDOW: usize = 64;
/// Places of a ring between two cores.
const RING: usize = 64;

/// What one run gave.
struct Row {
    cores: usize,
    /// Those of them that take.
    takers: usize,
    pairs: usize,
    /// Of all cores together, from the beginning to the end, in picoseconds.
    time: u64,
    counted: Counted,
}

impl Row {
    fn moved(&self, wanted: impl Fn(&str) -> bool) -> f64 {
        let moved = self.counted.moved.iter().filter(|line| wanted(&line.name));
        moved.map(|line| line.times).sum::<u64>() as f64 / self.pairs as f64
    }

    /// The most cores that share any line of this name.
    fn shared_by(&self, name: &str) -> u32 {
        let lines = self.counted.moved.iter().filter(|line| line.name == name);
        lines.map(|line| line.cores).max().unwrap_or(0)
    }

    /// Those that moved often enough to show, most often first.
    fn names(&self) -> Vec<String> {
        let mut times = BTreeMap::<&str, u64>::new();
        for line in &self.counted.moved {
            *times.entry(&line.name).or_default() += line.times;
        }
        times.retain(|_, times| *times * 1000 >= self.pairs as u64);
        let mut names: Vec<_> = times.into_iter().collect();
        names.sort_by_key(|&(_, times)| std::cmp::Reverse(times));
        names.into_iter().map(|(name, _)| name.to_owned()).collect()
    }

    fn nanos(&self) -> f64 {
        self.time as f64 / 1e3 / self.pairs as f64 * self.takers as f64
    }

    fn rate(&self) -> f64 {
        self.pairs as f64 / self.time as f64 * 1e6
    }
}

/// A way to get blocks, by cores.
trait Pooled {
    type Block;
    fn take(&self) -> Self::Block;
    fn give(&self, block: Self::Block);
}

struct Real(Pool, #[allow(dead_code)] tokio::runtime::Runtime);

impl Real {
    /// The reclaimer is a task of a runtime that never runs.
    fn new(blocks: usize, cores: usize) -> Real {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().build().expect("a runtime");
        let guard = runtime.enter();
        let builder = Pool::builder().limit(blocks * SIZE).shards(cores);
        let pool = builder.build().expect("a pool");
        drop(guard);
        Real(pool, runtime)
    }
}

impl Pooled for Real {
    type Block = DirectBytesMut;

    fn take(&self) -> DirectBytesMut {
        self.0.try_reserve(SIZE).expect("there is room")
    }

    fn give(&self, block: DirectBytesMut) {
        drop(block);
    }
}

/// A cache line to itself.
#[repr(align(128))]
#[derive(Default)]
struct Padded(AtomicU64);

/// A sketch of what any pool or semaphore does that counts bytes in one place.
#[derive(Default)]
struct OneCounter(Padded);

impl Pooled for OneCounter {
    type Block = ();

    fn take(&self) {
        self.0 .0.fetch_add(1, Ordering::AcqRel);
    }

    fn give(&self, (): ()) {
        self.0 .0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A sketch of *home* routing: a block goes back to the core that it came from, onto a list which that core takes as a whole when it
/// has none left.
struct Home {
    own: RefCell<Vec<Vec<usize>>>,
    /// The rest of the list that each core took last.
    came_home: RefCell<Vec<u64>>,
    remote: Vec<Padded>,
    /// The header of each block; the link in it.
    headers: Vec<Padded>,
}

impl Home {
    fn new(blocks: usize, cores: usize) -> Home {
        let each = blocks / cores;
        Home {
            own: RefCell::new(
                (0..cores)
                    .map(|core| (core * each..(core + 1) * each).collect())
                    .collect(),
            ),
            came_home: RefCell::new(vec![0; cores]),
            remote: (0..cores).map(|_| Padded::default()).collect(),
            headers: (0..blocks).map(|_| Padded::default()).collect(),
        }
    }
}

impl Pooled for Home {
    type Block = (usize, usize);

    fn take(&self) -> (usize, usize) {
        let core = machine::core();
        let block = self.own.borrow_mut()[core].pop().unwrap_or_else(|| {
            let list = &mut self.came_home.borrow_mut()[core];
            if *list == 0 {
                *list = self.remote[core].0.swap(0, Ordering::AcqRel);
            }
            let block = (*list as usize).checked_sub(1).expect("there is room");
            *list = self.headers[block].0.load(Ordering::Acquire);
            block
        });
        self.headers[block].0.store(0, Ordering::Release);
        (core, block)
    }

    fn give(&self, (home, block): (usize, usize)) {
        // Whether it is the last handle.
        self.headers[block].0.load(Ordering::Acquire);
        if home == machine::core() {
            return self.own.borrow_mut()[home].push(block);
        }
        let top = self.remote[home].0.load(Ordering::Relaxed);
        self.headers[block].0.store(top, Ordering::Release);
        let done = self.remote[home].0.compare_exchange(
            top,
            block as u64 + 1,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        assert!(done.is_ok());
    }
}

fn take<P: Pooled>(pool: &P) -> P::Block {
    let block = pool.take();
    machine::work(HALF);
    block
}

fn give<P: Pooled>(pool: &P, block: P::Block) {
    machine::work(HALF);
    pool.give(block);
}

/// Lets the earliest core take a step until each has taken so many; `false` from a step means that it could not.
fn in_turns(cores: usize, steps: usize, mut step: impl FnMut(usize) -> bool) {
    let mut left = vec![steps; cores];
    while let Some(core) = (0..cores)
        .filter(|&core| left[core] > 0)
        .min_by_key(|&core| machine::clock(core))
    {
        machine::run_on(core);
        if step(core) {
            left[core] -= 1;
        }
    }
}

/// Warms up, counts, and answers.
fn measure(
    cores: usize,
    takers: usize,
    warm_up: usize,
    mut step: impl FnMut(usize) -> bool,
) -> Row {
    in_turns(cores, warm_up, &mut step);
    machine::begin();
    let start = machine::clock(0);
    in_turns(cores, PAIRS, &mut step);
    let end = (0..cores).map(machine::clock).max().unwrap_or(0);
    Row {
        cores,
        takers,
        pairs: PAIRS * takers,
        time: end - start,
        counted: machine::counted(),
    }
}

fn lifo<P: Pooled>(cores: usize, pool: impl Fn() -> P) -> Row {
    machine::boot(cores);
    let pool = pool();
    measure(cores, cores, WARM_UP, |_| {
        let block = take(&pool);
        give(&pool, block);
        true
    })
}

fn window<P: Pooled>(cores: usize, pool: impl Fn() -> P) -> Row {
    machine::boot(cores);
    let pool = pool();
    let mut held: Vec<VecDeque<P::Block>> = (0..cores).map(|_| VecDeque::new()).collect();
    measure(cores, cores, WARM_UP, |core| {
        held[core].push_back(take(&pool));
        if held[core].len() > WINDOW {
            let oldest = held[core].pop_front().expect("one at least");
            give(&pool, oldest);
        }
        true
    })
}

/// Half of the cores take; what each of them takes is dropped by `dropper` of it and of how many it took before.
fn cross<P: Pooled>(
    cores: usize,
    pool: impl Fn() -> P,
    dropper: impl Fn(usize, usize) -> usize,
) -> Row {
    machine::boot(cores);
    let pool = pool();
    let half = cores / 2;
    let mut rings: Vec<VecDeque<(u64, P::Block)>> = (0..half).map(|_| VecDeque::new()).collect();
    let mut taken = vec![0; half];
    measure(cores, half, LONG_WARM_UP, |core| {
        if core < half {
            let to = dropper(core, taken[core]);
            if rings[to].len() >= RING {
                // Until the one who drops has had a turn.
                machine::idle_until(core, machine::clock(half + to) + 1);
                return false;
            }
            taken[core] += 1;
            let block = take(&pool);
            rings[to].push_back((machine::clock(core) + machine::TRANSFER, block));
        } else {
            let Some((ready, block)) = rings[core - half].pop_front() else {
                // Until the next of those who take has a turn.
                let later = |&time: &u64| time > machine::clock(core);
                let next = (0..half).map(machine::clock).filter(later).min();
                machine::idle_until(core, next.unwrap_or(0));
                return false;
            };
            machine::idle_until(core, ready);
            give(&pool, block);
        }
        true
    })
}

thread_local! {
    /// Tasks that were woken, and when.
    static WOKEN: RefCell<Vec<(usize, u64)>> = const { RefCell::new(Vec::new()) };
}

struct Number(usize);

impl Wake for Number {
    fn wake(self: Arc<Self>) {
        let now = machine::clock(machine::core());
        WOKEN.with(|woken| woken.borrow_mut().push((self.0, now)));
    }
}

/// A task's memory, whose lines are its own.
#[repr(align(128))]
struct Slot(Option<ReserveOwned>);

enum State {
    /// Is about to reserve.
    Idle,
    /// Waits; `true` once it is woken.
    Parked(bool),
    Holds(DirectBytesMut),
}

struct Task {
    core: usize,
    slot: Pin<Box<Slot>>,
    state: State,
    /// When it can go on.
    ready: u64,
    waker: Waker,
}

impl Task {
    fn new(number: usize, cores: usize) -> Task {
        Task {
            core: number % cores,
            slot: Box::pin(Slot(None)),
            state: State::Idle,
            ready: 0,
            waker: Waker::from(Arc::new(Number(number))),
        }
    }

    fn future(&mut self) -> Pin<&mut Option<ReserveOwned>> {
        // SAFETY: the one field is pinned as its slot is.
        unsafe { self.slot.as_mut().map_unchecked_mut(|slot| &mut slot.0) }
    }

    fn poll(&mut self) {
        let waker = self.waker.clone();
        let future = self.future().as_pin_mut().expect("it reserves");
        self.state = match future.poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => State::Parked(false),
            Poll::Ready(block) => {
                self.ready = machine::clock(self.core) + HOLD;
                State::Holds(block.expect("granted"))
            }
        };
    }

    /// Goes on; whether it has dropped its buffer.
    fn step(&mut self, pool: &Pool) -> bool {
        machine::run_on(self.core);
        machine::idle_until(self.core, self.ready);
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => {
                machine::work(HALF);
                self.future().set(Some(pool.reserve_owned(SIZE)));
                self.poll();
            }
            State::Parked(_) => self.poll(),
            State::Holds(block) => {
                machine::work(HALF);
                drop(block);
                self.ready = machine::clock(self.core);
                return true;
            }
        }
        false
    }
}

/// The tasks of each core reserve, hold and drop, and there is room for one of them.
fn pressed(cores: usize) -> Row {
    machine::boot(cores);
    // Those who were woken when the last run ended.
    WOKEN.take();
    let real = Real::new(cores, cores);
    let pool = &real.0;
    let mut tasks: Vec<_> = (0..TASKS * cores)
        .map(|number| Task::new(number, cores))
        .collect();
    let mut go_on = |pairs: usize| {
        let mut done = 0;
        while done < pairs {
            let awake = tasks.iter_mut();
            let awake = awake.filter(|task| !matches!(task.state, State::Parked(false)));
            let next =
                awake.min_by_key(|task| (task.ready.max(machine::clock(task.core)), task.ready));
            done += usize::from(next.expect("a wake-up was lost").step(pool));
            for (number, when) in WOKEN.take() {
                let task = &mut tasks[number];
                if matches!(task.state, State::Parked(false)) {
                    task.ready = when + machine::TRANSFER;
                    task.state = State::Parked(true);
                }
            }
        }
    };
    let pairs = 200 * cores;
    go_on(pairs);
    machine::begin();
    let start = machine::clock(0);
    go_on(pairs);
    let counted = machine::counted();
    let time = (0..cores).map(machine::clock).max().unwrap_or(0) - start;
    let parked = pool.stats().parked_total;
    assert!(parked > 2 * pairs as u64 * 9 / 10, "hardly anyone waited");
    Row {
        cores,
        takers: cores,
        pairs,
        time,
        counted,
    }
}

fn table(out: &mut String, title: &str, rows: &[Row]) {
    let mut names: Vec<String> = Vec::new();
    for name in rows.iter().flat_map(Row::names) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let _ = write!(
        out,
        "### {title}\n\n| cores | ns a pair | million pairs/s | lines moved a pair |"
    );
    names
        .iter()
        .for_each(|name| out.push_str(&format!(" {name} (shared by) |")));
    out.push_str(" atomic changes a pair |\n| --: | --: | --: | --: |");
    names.iter().for_each(|_| out.push_str(" --: |"));
    out.push_str(" --: |\n");
    for row in rows {
        let cores = row.cores;
        let _ = write!(
            out,
            "| {cores} | {:.1} | {:.1} | {:.3} |",
            row.nanos(),
            row.rate(),
            row.moved(|_| true)
        );
        for name in &names {
            let moved = row.moved(|own| own == name);
            match moved >= 0.0005 {
                true => drop(write!(out, " {moved:.3} ({}) |", row.shared_by(name))),
                false => out.push_str(" 0 |"),
            }
        }
        let _ = writeln!(
            out,
            " {:.2} |",
            row.counted.changes as f64 / row.pairs as f64
        );
    }
    out.push('\n');
}

fn all() -> String {
    let rows = |run: &dyn Fn(usize) -> Row| CORES.map(run);
    let room = |cores: usize| 8 * WINDOW * cores;
    let real = |cores: usize| move || Real::new(room(cores), cores);
    let home = |cores: usize| move || Home::new(room(cores), cores);
    let pairwise = |core: usize, _| core;
    let mut out = String::new();
    let mut add = |title: &str, run: &dyn Fn(usize) -> Row| table(&mut out, title, &rows(run));
    add("LIFO: each core takes and drops", &|cores| {
        lifo(cores, real(cores))
    });
    add(
        "Window: 64 live on each core, the oldest dropped",
        &|cores| window(cores, real(cores)),
    );
    add("Cross: one core takes, another drops, in pairs", &|cores| {
        cross(cores, real(cores), pairwise)
    });
    add("The same with blocks routed home (sketch)", &|cores| {
        cross(cores, home(cores), pairwise)
    });
    let spread = |cores: usize| move |core: usize, taken: usize| (core + taken) % (cores / 2);
    add(
        "Spread: each taker's blocks are dropped by all the droppers in turn",
        &|cores| cross(cores, real(cores), spread(cores)),
    );
    add("The same with blocks routed home (sketch)", &|cores| {
        cross(cores, home(cores), spread(cores))
    });
    add(
        "Pressed: 8 tasks on each core await, hold for 10 µs, drop; there is room for one of them",
        &pressed,
    );
    add("LIFO with one shared counter (sketch)", &|cores| {
        lifo(cores, OneCounter::default)
    });
    out
}

const BEGIN: &str = "<!-- from here on written by offheap-scaling -->\n";

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let tables = all();
    match &args[..] {
        [] => print!("{tables}"),
        [flag, page] if flag == "--write" => {
            let old = std::fs::read_to_string(page).expect("the page");
            let (text, _) = old.split_once(BEGIN).expect("the mark in the page");
            std::fs::write(page, format!("{text}{BEGIN}\n{}\n", tables.trim_end()))
                .expect("the page");
        }
        _ => {
            eprintln!("usage: scaling [--write PAGE]");
            std::process::exit(2);
        }
    }
}
