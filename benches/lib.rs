//! What the benchmarks of `offheap` share: whom the pool is compared with, what they have to do, and how it is counted.
//!
//! A [peer](peers) is a way to get a buffer. A [scenario] is written once, for any peer, and answers what it
//! measured; it prints nothing. These benchmarks run them:
//!
//! - `cargo bench -p offheap-benches --bench compare` runs all peers of a row by turns, in many short rounds, prints Markdown
//!   tables of medians and ratios, and says of each goal whether it holds. Ratios from here are the ones to trust: on a
//!   noisy machine a peer's neighbour in time is the only fair company. `-- --quick` and the name of a scenario shorten it.
//!   `--features peers` adds all peers, and `-- --report docs` writes `docs/benchmarks.md` and its plots from that run.
//! - `--bench pair` and `--bench wait` are the same scenarios under criterion, one peer after another, for watching a
//!   single figure from change to change.
//! - `--features instructions --bench instructions` counts instructions under valgrind; the script `benches/count` runs it, and fails where
//!   a count has grown.
//!
//! Besides, `--features metrics --bench scrape` says what looking at a pool costs, and the script `benches/on-and-off` what the
//! optional features cost a reservation that finds memory.

pub mod figures;
pub mod peers;
pub mod scenario;
