//! The rows of handles: what cloning, slicing and freezing cost beside `bytes`.

use std::iter::once;
use std::time::Duration;

use offheap_benches::figures::{interleave, Runner, Table};
use offheap_benches::scenario::handles::{Buffers, Deed, Heap, Pooled};

use super::{cell, ratios, Options, Report, MS};

pub(crate) fn compare(options: &Options, report: &mut Report) {
    let head: Vec<_> = once("handles").chain([Pooled::NAME, Heap::NAME]).collect();
    let mut table = Table::new(&head);
    for deed in Deed::ALL {
        let round = options.pick(3 * MS, MS);
        let mut runners = [runner::<Pooled>(deed, round), runner::<Heap>(deed, round)];
        let all = interleave(options.pick(101, 11), &mut runners);
        let ratios = ratios(&all, |&ns| ns);
        let most = match deed {
            Deed::Clone | Deed::Slice => 0.65,
            Deed::Freeze => 0.5,
            Deed::CloneByTwo => 1.0,
        };
        report
            .goals
            .at_most(format!("{} / {}", deed.name(), Heap::NAME), ratios[1], most);
        let medians = all.iter().map(|series| series.median(|&ns| ns));
        let cells = medians
            .enumerate()
            .map(|(peer, ns)| cell(peer, ns, &ratios));
        table.row(once(deed.name().to_string()).chain(cells));
    }
    report.table(
        "Handles: time per operation and thread (in brackets: ours / theirs)",
        table,
    );
}

/// Nanoseconds per deed, in rounds of about the same length.
fn runner<'a, B: Buffers + 'a>(deed: Deed, round: Duration) -> Runner<'a, f64> {
    const TRIAL: u64 = 2000;
    let buffers = B::new();
    let trial = deed.time(&buffers, TRIAL).max(Duration::from_micros(1));
    let times = (TRIAL as f64 * round.as_secs_f64() / trial.as_secs_f64()).max(1000.0) as u64;
    Runner {
        name: B::NAME,
        run: Box::new(move || deed.time(&buffers, times).as_nanos() as f64 / times as f64),
    }
}
