//! The pairs under criterion, for watching a single figure from change to change: `cargo bench -p offheap-benches --bench
//! pair -- 'LIFO 4 KiB'`.
//!
//! Criterion runs the peers one after another. To compare them with each other use `--bench compare`.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{criterion_group, criterion_main, BenchmarkGroup, Criterion};
use offheap_benches::peers::{visit, Peer, Visitor};
use offheap_benches::scenario::pair::{plans, Plan};

fn pairs(criterion: &mut Criterion) {
    for plan in plans() {
        let group = criterion.benchmark_group(plan.name());
        let mut add = Add { group, plan };
        visit(&mut add);
        add.group.finish();
    }
}

struct Add<'a> {
    group: BenchmarkGroup<'a, WallTime>,
    plan: Plan,
}

impl Visitor for Add<'_> {
    fn visit<P: Peer>(&mut self) {
        let plan = self.plan;
        if !plan.suits::<P>() {
            return;
        }
        let peer = P::new(plan.limit(), plan.size);
        self.group.bench_function(P::NAME, |bencher| {
            bencher.iter_custom(|pairs| plan.time(&peer, pairs));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = pairs
}
criterion_main!(benches);
