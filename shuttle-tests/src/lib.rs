//! Long schedules of offheap's concurrent core.
//!
//! Loom tries every interleaving of a few steps of a few threads, with all that weak memory allows. Shuttle tries some
//! interleavings of many steps of many threads, one operation after another. What needs eight threads to go wrong is found here, or
//! not at all; orderings are loom's business.
//!
//! `OFFHEAP_SCHEDULES` says how many schedules each test tries; a failing one is printed, for `shuttle::replay`.

#[cfg(not(all(offheap_loom, offheap_shuttle)))]
compile_error!("the schedules would be the machine's own: build.rs sets these cfgs");

#[path = "../../src/arena/mod.rs"]
mod arena;
#[path = "../../src/budget/mod.rs"]
mod budget;
#[path = "../../src/engine/mod.rs"]
mod engine;
#[path = "../../src/reclaim/mod.rs"]
mod reclaim;
#[path = "../../src/sync.rs"]
mod sync;
#[path = "../../src/sys/mod.rs"]
mod sys;

#[cfg(test)]
mod schedules;
