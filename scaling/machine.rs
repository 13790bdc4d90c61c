//! A machine with many cores and one cache line protocol, simulated: who has which line, what it costs to move one, and when each core
//! is done with what it does.
//!
//! A line is *owned* by the core that wrote it last, or *shared* by those who have read it since. A core that reads a line which it
//! does not have, or writes one that it does not own, has to get it first: one transfer. For a line that it reads it waits; a plain
//! store waits for its line in the store buffer, and the core goes on. A line moves to one core at a time; others queue for it. All
//! else a core does costs what its own instructions cost, which the workload says.
//!
//! The simulation is one thread. Cores take turns by operation, whoever is earliest; an operation is not interrupted.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::panic::Location;

pub use super::AtomicU64;

/// A cache line, core to core, in picoseconds: measured on the machine that the figures of `DESIGN` are from, 67 ns.
pub const TRANSFER: u64 = 67_000;
/// A read-modify-write of a line that the core owns already: 8 ns.
pub const CHANGE: u64 = 8_000;
const LINE: usize = 64;

/// What is done to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    /// Read and write, under a lock or as the only one who may.
    Use,
    /// Read, modify and write in one step.
    Change,
}

#[derive(Debug, Default)]
struct Line {
    owner: Option<usize>,
    /// One bit for each core.
    sharers: u128,
    /// Until when it is on its way to someone.
    busy: u64,
    moved: u64,
    cores: u128,
    /// The source files of those who touched it.
    files: Vec<&'static str>,
}

/// Addresses need no hashing that nobody can foresee.
#[derive(Debug, Default)]
struct ByAddress(u64);

impl Hasher for ByAddress {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("addresses are numbers");
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = (address as u64)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(32);
    }
}

#[derive(Debug, Default)]
struct Machine {
    core: usize,
    clocks: Vec<u64>,
    lines: HashMap<usize, Line, BuildHasherDefault<ByAddress>>,
    /// When each lock was released, by address.
    released: HashMap<usize, u64>,
    changes: u64,
}

thread_local! {
    static MACHINE: RefCell<Option<Machine>> = const { RefCell::new(None) };
}

fn with<R>(f: impl FnOnce(&mut Machine) -> R) -> Option<R> {
    MACHINE.with(|machine| machine.borrow_mut().as_mut().map(f))
}

impl Machine {
    fn access(&mut self, at: usize, access: Access, file: &'static str) {
        let (core, mask) = (self.core, 1 << self.core);
        let line = self.lines.entry(at).or_default();
        if !line.files.iter().any(|known| std::ptr::eq(*known, file)) {
            line.files.push(file);
        }
        line.cores |= mask;
        let others = line.owner.is_some_and(|owner| owner != core) || line.sharers & !mask != 0;
        let has = line.owner == Some(core) || line.sharers & mask != 0;
        let moves = match access {
            Access::Read => !has && others,
            Access::Write | Access::Use | Access::Change => others,
        };
        if moves {
            line.moved += 1;
            line.busy = line.busy.max(self.clocks[core]) + TRANSFER;
            if access != Access::Write {
                self.clocks[core] = line.busy;
            }
        }
        match access {
            Access::Read if line.owner == Some(core) => {}
            Access::Read => line.sharers |= mask | line.owner.take().map_or(0, |owner| 1 << owner),
            Access::Write | Access::Use | Access::Change => {
                (line.owner, line.sharers) = (Some(core), 0)
            }
        }
        if access == Access::Change {
            self.changes += 1;
            self.clocks[core] += CHANGE;
        }
    }
}

fn lines_of<T>(what: &T) -> impl Iterator<Item = usize> {
    let at = std::ptr::from_ref(what) as usize;
    at / LINE..=(at + size_of::<T>().max(1) - 1) / LINE
}

// ---- for the code that is simulated -------------------------------------------------------------------------------

/// The current core does something to all lines of `what`.
#[track_caller]
pub fn access<T>(what: &T, access: Access) {
    let file = Location::caller().file();
    with(|machine| lines_of(what).for_each(|line| machine.access(line, access, file)));
}

/// The current core waits for a lock, and has what it guards.
pub fn lock<T>(lock: &T, what: &'static str) {
    with(|machine| {
        let at = std::ptr::from_ref(lock) as usize;
        let released = machine.released.get(&at).copied().unwrap_or(0);
        let clock = &mut machine.clocks[machine.core];
        *clock = released.max(*clock);
        machine.access(at / LINE, Access::Change, what);
        lines_of(lock).for_each(|line| machine.access(line, Access::Use, what));
    });
}

pub fn unlock<T>(lock: &T) {
    with(|machine| {
        let at = std::ptr::from_ref(lock) as usize;
        machine.released.insert(at, machine.clocks[machine.core]);
    });
}

/// The current core.
pub fn core() -> usize {
    with(|machine| machine.core).unwrap_or(0)
}

// ---- for the workloads --------------------------------------------------------------------------------------------

/// A new machine, whose caches are empty.
pub fn boot(cores: usize) {
    assert!((1..=128).contains(&cores));
    let machine = Machine {
        clocks: vec![0; cores],
        ..Machine::default()
    };
    MACHINE.with(|own| *own.borrow_mut() = Some(machine));
}

/// What follows is done by this core.
pub fn run_on(core: usize) {
    with(|machine| machine.core = core);
}

/// The time of a core, in picoseconds.
pub fn clock(core: usize) -> u64 {
    with(|machine| machine.clocks[core]).unwrap_or(0)
}

/// The current core is busy with itself for so long.
pub fn work(picoseconds: u64) {
    with(|machine| machine.clocks[machine.core] += picoseconds);
}

/// A core has nothing to do until then.
pub fn idle_until(core: usize, time: u64) {
    with(|machine| machine.clocks[core] = machine.clocks[core].max(time));
}

/// Begins to count, from one time on all cores.
pub fn begin() {
    with(|machine| {
        let now = machine.clocks.iter().copied().max().unwrap_or(0);
        machine.clocks.fill(now);
        machine.changes = 0;
        for line in machine.lines.values_mut() {
            (line.moved, line.cores) = (0, 0);
            line.files.clear();
        }
    });
}

/// A line that moved.
#[derive(Debug, Clone)]
pub struct Moved {
    pub name: String,
    pub times: u64,
    pub cores: u32,
}

/// What was counted since the beginning.
#[derive(Debug, Default, Clone)]
pub struct Counted {
    pub moved: Vec<Moved>,
    pub changes: u64,
}

pub fn counted() -> Counted {
    with(|machine| {
        let moved = machine.lines.values().filter(|line| line.moved > 0);
        Counted {
            moved: moved
                .map(|line| Moved {
                    name: name_of(&line.files),
                    times: line.moved,
                    cores: line.cores.count_ones(),
                })
                .collect(),
            changes: machine.changes,
        }
    })
    .unwrap_or_default()
}

/// What a line is, by the files whose code touches it. Headers are touched by all who link blocks, so they come first.
fn name_of(files: &[&'static str]) -> String {
    const NAMES: [(&str, &str); 14] = [
        ("arena/header.rs", "block headers"),
        ("account.rs", "account"),
        ("::State", "waiters' lock"),
        ("budget/waiters.rs", "waiters' nodes"),
        ("arena/depot.rs", "depot"),
        ("arena/own.rs", "magazines"),
        ("arena/magazine.rs", "magazines"),
        ("scaling/main.rs", "sketch"),
        ("engine/", "counters"),
        ("reclaim/", "counters"),
        ("arena/mod.rs", "references to the pool"),
        ("::Growth", "class"),
        ("arena/hope.rs", "class"),
        ("arena/class.rs", "class"),
    ];
    let is = |part: &str| files.iter().any(|file| file.contains(part));
    match NAMES.iter().find(|(part, _)| is(part)) {
        Some((_, name)) => (*name).to_owned(),
        None => files.join(", "),
    }
}
