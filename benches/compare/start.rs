//! Beginnings: building a large pool, and writing memory for the first time.

use std::time::Duration;

use offheap_benches::figures::{bytes, interleave, median, time, Runner, Series, Table};
use offheap_benches::peers::{visit, Kind, Offheap, Peer, Visitor};
use offheap_benches::scenario::runtime;
use offheap_benches::scenario::start::{build, touch_mapping, touch_pages, Start};

use super::{cell, ratios, runner, Options, Report, KIB};

const GIB: usize = 1 << 30;
/// What is written page by page.
const SIZE: usize = 64 << 20;
const FRESH: &str = "offheap, a fresh pool";
const MAPPING: &str = "mmap and munmap";

pub(crate) fn compare(options: &Options, report: &mut Report) {
    startup(options, report);
    pages(options, report);
}

fn startup(options: &Options, report: &mut Report) {
    const LIMIT: usize = 64 * GIB;
    let rounds = options.pick(31, 5);
    let runtime = runtime(1);
    let mut table = Table::new(&["", "to build", "resident when built", "after a first 4 KiB"]);
    for (place, inside) in [("in a runtime", true), ("outside", false)] {
        let entered = inside.then(|| runtime.enter());
        let starts: Result<Vec<Start>, _> = (0..rounds).map(|_| build(LIMIT)).collect();
        drop(entered);
        let name = format!("{} limit, built {place}", bytes(LIMIT));
        let starts = match starts {
            Ok(starts) => starts,
            Err(error) => {
                report
                    .goals
                    .note(format!("start-up, {name}"), error.to_string(), false);
                continue;
            }
        };
        let of = |figure: fn(&Start) -> f64| median(starts.iter().map(figure).collect());
        let build = of(|start| start.build.as_nanos() as f64);
        let [built, used] = [
            of(|start| start.resident as f64),
            of(|start| start.used as f64),
        ];
        table.row([
            name.clone(),
            time(build),
            bytes(built as usize),
            bytes(used as usize),
        ]);
        let most = Duration::from_millis(1).as_nanos() as f64;
        report.goals.note(
            format!("start-up, {name}: < 1 ms"),
            time(build),
            build < most,
        );
        let goal = format!("start-up, {name}: < 1 MiB resident until used");
        report
            .goals
            .note(goal, bytes(built as usize), built < (1024 * KIB) as f64);
    }
    report.table("Start-up: medians", table);
}

/// 64 MiB of which every page is written: by a fresh pool each time, and by whoever keeps memory or does not.
fn pages(options: &Options, report: &mut Report) {
    let mut peers: Vec<Runner<'_, f64>> = vec![
        Runner {
            name: FRESH,
            // Building and dropping the pool is not part of it.
            run: Box::new(|| touch_pages(&Offheap::new(SIZE, SIZE), SIZE)),
        },
        Runner {
            name: MAPPING,
            run: Box::new(|| touch_mapping(SIZE)),
        },
    ];
    let mut add = Add(Vec::new());
    visit(&mut add);
    peers.append(&mut add.0);
    let all: Vec<Series<f64>> = interleave(options.pick(11, 3), &mut peers);
    let ratios = ratios(&all, |&ns| ns);
    let mut table = Table::new(&[
        "64 MiB, every page written",
        "per page (fresh pool / theirs)",
    ]);
    for (peer, series) in all.iter().enumerate() {
        table.row([
            series.name.to_string(),
            cell(peer, series.median(|&ns| ns), &ratios),
        ]);
    }
    report.table(
        "First touch: taken, one byte written to each page, given back",
        table,
    );
    report.text(
        "A page of fresh memory costs a fault; a pool that is used again has its pages already.\n",
    );
}

/// Those that keep memory for a while, or ask the kernel each time. Pools that never free would keep all of it.
struct Add<'a>(Vec<Runner<'a, f64>>);

impl Visitor for Add<'_> {
    fn visit<P: Peer>(&mut self) {
        if matches!(P::KIND, Kind::Ours | Kind::Allocator) {
            let peer = P::new(2 * SIZE, SIZE);
            self.0
                .push(runner::<P, _>(move || touch_pages(&peer, SIZE)));
        }
    }
}
