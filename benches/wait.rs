//! Contended pools and wake-ups under criterion, for watching a single figure from change to change.
//!
//! *Contended* is the time per buffer handed out, which is throughput turned upside down; tails and fairness, recovery and
//! the comparison with the peers are what `--bench compare` is for.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{criterion_group, criterion_main, BenchmarkGroup, Criterion};
use offheap_benches::peers::{Backoff, Limited, Offheap, Peer, Permits, Semaphore};
use offheap_benches::scenario::contended::{Hold, Plan};
use offheap_benches::scenario::runtime;
use offheap_benches::scenario::wake::Place;
use tokio::runtime::Runtime;

const SIZE: usize = 64 << 10;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn contended(criterion: &mut Criterion) {
    for (hold, name) in [
        (Hold::Yields, "contended, hold 2 to 6 yields"),
        (
            Hold::Sleep(Duration::from_millis(1)),
            "contended, hold 1 ms",
        ),
    ] {
        let plan = Plan {
            takers: 64,
            room: 16,
            size: SIZE,
            hold,
            time: Duration::from_millis(50),
        };
        let runtime = runtime(2);
        let mut group = criterion.benchmark_group(name);
        add_contended::<Offheap>(&mut group, plan, &runtime);
        add_contended::<Semaphore>(&mut group, plan, &runtime);
        add_contended::<Backoff>(&mut group, plan, &runtime);
        group.finish();
    }
}

fn add_contended<P: Limited>(group: &mut Group<'_>, plan: Plan, runtime: &Runtime) {
    let peer = build::<P>(runtime, plan.limit(), plan.size);
    group.bench_function(P::NAME, |bencher| {
        bencher.iter_custom(|buffers| {
            // A fixed time, whatever criterion asks for: shorter runs would measure how 64 tasks start.
            let outcome = runtime.block_on(plan.tasks(peer.clone()));
            Duration::from_secs_f64(buffers as f64 / outcome.per_second())
        });
    });
}

fn wake(criterion: &mut Criterion) {
    for place in [Place::SameThread, Place::BusyWorker, Place::ParkedWorker] {
        let runtime = place.runtime();
        let mut group = criterion.benchmark_group(format!("wake, {}", place.name()));
        add_wake::<Offheap>(&mut group, place, &runtime);
        add_wake::<Permits>(&mut group, place, &runtime);
        add_wake::<Semaphore>(&mut group, place, &runtime);
        group.finish();
    }
}

fn add_wake<P: Limited>(group: &mut Group<'_>, place: Place, runtime: &Runtime) {
    let peer = build::<P>(runtime, SIZE, SIZE);
    group.bench_function(P::NAME, |bencher| {
        bencher.iter_custom(|samples| {
            let latencies = runtime.block_on(place.latencies(&peer, SIZE, samples as usize));
            Duration::from_secs_f64(latencies.iter().sum::<f64>() / 1e9)
        });
    });
}

fn build<P: Peer>(runtime: &Runtime, limit: usize, size: usize) -> P {
    let _entered = runtime.enter();
    P::new(limit, size)
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = contended, wake
}
criterion_main!(benches);
