//! Loom models of offheap's concurrent core.
//!
//! The core's own source files are compiled here a second time, with loom's atomics, lock and cell in place of std's.
//! Each model runs a handful of threads through every interleaving that loom distinguishes (up to a bound on
//! pre-emptions) and every value that the memory orderings allow. Plain `cargo test` runs them.
//!
//! A model that can not fail is a defect; each says which change to the code it was seen to fail with.

#[cfg(not(offheap_loom))]
compile_error!("the models would pass without checking anything: build.rs sets this cfg");

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
mod models;
