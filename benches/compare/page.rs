//! The page: who ran it, how to read it, and what was found.

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

use offheap_benches::figures::Table;
use offheap_benches::peers::about;

/// The page's file, and the folder of its plots beside it.
pub(crate) const NAME: &str = "benchmarks.md";
pub(crate) const PLOTS: &str = "benchmarks";

/// What the benchmarks were built from.
const LOCK: &str = include_str!("../../Cargo.lock");

/// Peers are made of crates whose versions Cargo.lock has; these are not compared, for a reason.
const LEFT_OUT: [&str; 1] = ["later versions of `frozen-core`, which have no buffer pool any more"];

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    let benches = Path::new(env!("CARGO_MANIFEST_DIR"));
    benches.parent().unwrap_or(benches)
}

/// All of it.
pub(crate) fn text(quick: bool, goals: &str, body: &str) -> String {
    format!(
        "# Benchmarks

Written by `cargo bench -p offheap-benches --features peers --bench compare -- --report docs`, from one run{}. Not edited by hand.

{}
## How to read it

- Each row's peers run by turns in many short rounds, each round beginning with another one. A ratio is taken within a round, and the
  table has the median over the rounds: what disturbs the machine disturbs neighbours alike, and cancels out. **Compare within a row.**
  Times are medians as well, and belong to this machine.
- *(0.5 ×)* behind a peer's time means that ours is half of it.
- A goal *holds* if the median of its ratio does; *within the noise* says that only the better quarter of the rounds does.
- A *pair* takes a buffer, writes its first 8 bytes and gives it back. *LIFO*: each before the next is taken. *Window*: 64 are live, and the
  oldest goes back. *Cross*: one thread takes and writes, another reads and gives back, with a ring of 64 places between them. The *floor* is
  the same loop over fixed buffers in rotation, one behind the other, without a pool: nobody has to learn what has come back. Its buffers are not
  coloured, so that something that does may be faster where they fall into the same cache sets.
- Allocators are called directly, the process's own is the system's. All peers are built with the same settings and inlined as far as they allow.
- Pools that need objects to begin with make them when they are first asked, so that every peer works with as many as are live.

## Goals

{goals}
## Figures

{body}
## Who is compared

{}
Not compared: {}.
",
        if quick { " in a hurry (`--quick`: few rounds, wide quartiles)" } else { "" },
        machine(),
        peers(),
        LEFT_OUT.join("; "),
    )
}

fn machine() -> Table {
    let mut table = Table::new(&["machine", ""]);
    let cores = available_parallelism().map_or("unknown".into(), |cores| cores.to_string());
    let system = rustix::system::uname();
    let [name, release] = [system.sysname(), system.release()].map(|text| text.to_string_lossy());
    for (what, value) in [
        ("processor", processor()),
        ("cores", cores),
        ("kernel", format!("{name} {release}")),
        ("C library", c_library()),
        ("compiler", env!("BENCH_RUSTC").to_string()),
    ] {
        table.row([what.to_string(), value]);
    }
    table
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let model = fields.find(|(field, _)| field.trim() == "model name");
    model
        .map_or("unknown", |(_, model)| model.trim())
        .to_string()
}

#[cfg(target_env = "gnu")]
fn c_library() -> String {
    // SAFETY: it answers a string that is there for good.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    format!("glibc {}", version.to_string_lossy())
}

#[cfg(not(target_env = "gnu"))]
fn c_library() -> String {
    "not glibc".into()
}

fn peers() -> Table {
    let mut table = Table::new(&["peer", "limit", "made of"]);
    for about in about() {
        let crates = about.crates.iter().map(|name| match *name {
            // Only how to call it.
            "libc" => c_library(),
            name => format!("{name} {}", version(name)),
        });
        let made_of = crates.collect::<Vec<_>>().join(", ");
        table.row([about.name.to_string(), about.limit.to_string(), made_of]);
    }
    table
}

/// A crate's version in the lock file; all of them where there are several.
fn version(name: &str) -> String {
    let mut lines = LOCK.lines();
    let mut versions = Vec::new();
    while let Some(line) = lines.next() {
        if line
            .strip_prefix("name = ")
            .is_some_and(|rest| rest.trim_matches('"') == name)
        {
            let next = lines
                .next()
                .and_then(|line| line.strip_prefix("version = "));
            versions.extend(next.map(|version| version.trim_matches('"')));
        }
    }
    versions.join(" or ")
}
