//! Instructions of the operations that matter most, counted by valgrind: the same from run to run, so that a change shows which no
//! clock would. The script `benches/count` runs it, and compares with the counts that are kept in `benches/instructions.json`.
//!
//! Each function does its operation [`TIMES`] times on buffers of 4 KiB. Everything else happens before, in a runtime that never runs, so
//! that no other thread takes part.

// Modules and functions that the macros make.
#![allow(missing_docs, unreachable_pub)]

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use gungraun::prelude::*;
use gungraun::{Callgrind, Dhat, EventKind};
use offheap::{DirectBytes, DirectBytesMut, Pool, ReserveError};
use offheap_benches::scenario::local_runtime;
use tokio::runtime::Runtime;

/// How often each operation is done; `benches/count` divides by it.
const TIMES: usize = 1000;
const SIZE: usize = 4 << 10;

/// A pool that has been in use for a while, and the runtime that it belongs to.
struct Used {
    pool: Pool,
    _runtime: Runtime,
}

fn used(room: usize) -> Used {
    let runtime = local_runtime();
    let pool = {
        let _entered = runtime.enter();
        Pool::builder().limit(room * SIZE).build().expect("a pool")
    };
    // Until this thread has a magazine of its own.
    (0..4096).for_each(|_| drop(pool.try_reserve(SIZE)));
    Used {
        pool,
        _runtime: runtime,
    }
}

fn pool() -> Used {
    used(2 * TIMES)
}

#[library_benchmark]
#[bench::prepared(pool())]
fn pair(used: Used) -> Used {
    for _ in 0..TIMES {
        drop(black_box(used.pool.try_reserve(black_box(SIZE))));
    }
    used
}

#[library_benchmark]
#[bench::prepared(pool())]
fn pair_awaited(used: Used) -> Used {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..TIMES {
        let mut reservation = std::pin::pin!(used.pool.reserve(black_box(SIZE)));
        drop(black_box(reservation.as_mut().poll(&mut context)));
    }
    used
}

struct Shared {
    buffer: DirectBytes,
    _used: Used,
}

fn shared() -> Shared {
    let used = pool();
    let mut buffer = used.pool.try_reserve(SIZE).expect("room");
    buffer.extend_from_slice(&[7; 1000]);
    let buffer = buffer.freeze();
    // This thread becomes the owner, and there is another handle, as where buffers are shared.
    std::mem::forget(buffer.clone());
    Shared {
        buffer,
        _used: used,
    }
}

#[library_benchmark]
#[bench::prepared(shared())]
fn clone_and_drop(shared: Shared) -> Shared {
    for _ in 0..TIMES {
        drop(black_box(black_box(&shared.buffer).clone()));
    }
    shared
}

#[library_benchmark]
#[bench::prepared(shared())]
fn slice_and_drop(shared: Shared) -> Shared {
    for _ in 0..TIMES {
        let (begin, end) = black_box((10, 100));
        drop(black_box(black_box(&shared.buffer).slice(begin..end)));
    }
    shared
}

struct Many {
    unique: Vec<DirectBytesMut>,
    shared: Vec<DirectBytes>,
    _used: Used,
}

fn many() -> Many {
    let used = pool();
    let filled = |_| {
        let mut buffer = used.pool.try_reserve(SIZE).expect("room");
        buffer.extend_from_slice(&[7; 100]);
        buffer
    };
    Many {
        unique: (0..TIMES).map(filled).collect(),
        shared: Vec::with_capacity(TIMES),
        _used: used,
    }
}

#[library_benchmark]
#[bench::prepared(many())]
fn freeze(mut many: Many) -> Many {
    many.shared
        .extend(many.unique.drain(..).map(DirectBytesMut::freeze));
    many
}

type Reservation = Pin<Box<dyn Future<Output = Result<DirectBytesMut, ReserveError>>>>;

/// Everything is held, and as many wait.
struct Pressed {
    held: Vec<DirectBytesMut>,
    waiting: Vec<Reservation>,
    used: Used,
}

fn full() -> Pressed {
    let used = used(TIMES);
    Pressed {
        held: (0..TIMES)
            .map(|_| used.pool.try_reserve(SIZE).expect("room"))
            .collect(),
        waiting: (0..TIMES)
            .map(|_| Box::pin(used.pool.reserve_owned(SIZE)) as Reservation)
            .collect(),
        used,
    }
}

fn park(pressed: &mut Pressed) {
    let mut context = Context::from_waker(Waker::noop());
    for reservation in &mut pressed.waiting {
        let poll: Poll<_> = reservation.as_mut().poll(&mut context);
        assert!(poll.is_pending());
    }
}

fn pressed() -> Pressed {
    let mut pressed = full();
    park(&mut pressed);
    // The list itself is not what is measured.
    pressed.waiting.reserve(1);
    assert_eq!(pressed.used.pool.stats().waiting, TIMES as u64);
    pressed
}

#[library_benchmark]
#[bench::prepared(full())]
fn first_poll_to_park(mut full: Pressed) -> Pressed {
    park(&mut full);
    full
}

#[library_benchmark]
#[bench::prepared(pressed())]
fn drop_while_pressed(mut pressed: Pressed) -> Pressed {
    pressed.held.drain(..).for_each(drop);
    pressed
}

library_benchmark_group!(
    name = operations,
    benchmarks = [
        pair,
        pair_awaited,
        clone_and_drop,
        slice_and_drop,
        freeze,
        first_poll_to_park,
        drop_while_pressed
    ]
);

main!(
    config = LibraryBenchmarkConfig::default()
        .tool(
            Callgrind::with_args(["--collect-systime=yes"])
                .format([EventKind::Ir, EventKind::SysCount])
        )
        .tool(Dhat::default()),
    library_benchmark_groups = operations
);
