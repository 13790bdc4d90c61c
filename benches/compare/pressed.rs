//! The rows of parking and handing over, from a short queue to a long one.

use offheap_benches::figures::{interleave, Runner, Series, Table};
use offheap_benches::peers::{Limited, Offheap, Peer, Permits, Semaphore};
use offheap_benches::scenario::pressed::{
    first_in_queue, hand_over, limit, rounds, take_all, Steps,
};
use offheap_benches::scenario::runtime;
use tokio::runtime::Runtime;

use super::plot::{Line, Lines};
use super::{build, cell, ratios, runner, Options, Report, KIB};

const SIZE: usize = 4 * KIB;
const WAITERS: [usize; 4] = [8, 64, 1024, 16384];
/// Ours, permits without memory, and both together.
const PERMITS: usize = 1;
const SEMAPHORE: usize = 2;

pub(crate) fn compare(options: &Options, report: &mut Report) {
    let runtime = runtime(1);
    first(options, report, &runtime);
    let mut table = Table::new(&[
        "waiters",
        "peer",
        "to park, behind others",
        "drop that serves one",
        "collecting it",
        "all three",
    ]);
    let mut lines: Vec<Line> = Vec::new();
    for waiters in WAITERS {
        let mut peers = [
            steps::<Offheap>(waiters, &runtime),
            steps::<Permits>(waiters, &runtime),
            steps::<Semaphore>(waiters, &runtime),
        ];
        // Short queues need more rounds: each is over in a microsecond.
        let turns = options.pick(101, 11).min(1 + (1 << 20) / waiters);
        let all = interleave(turns, &mut peers);
        let figures: [fn(&Steps) -> f64; 4] = [
            |steps| steps.park,
            |steps| steps.drop,
            |steps| steps.collect,
            Steps::sum,
        ];
        for (peer, series) in all.iter().enumerate() {
            let name = if peer == 0 {
                waiters.to_string()
            } else {
                String::new()
            };
            let cells =
                figures.map(|figure| cell(peer, series.median(figure), &ratios(&all, figure)));
            table.row([name, series.name.to_string()].into_iter().chain(cells));
            add(&mut lines, series, waiters, series.median(Steps::sum));
        }
        let park = ratios(&all, |steps| steps.park)[PERMITS];
        let what = format!(
            "first poll to park behind {waiters} / {}",
            all[PERMITS].name
        );
        report.goals.at_most(what, park, 1.0);
        let sum = ratios(&all, Steps::sum)[SEMAPHORE];
        let what = format!("hand-over with {waiters} waiting / {}", all[SEMAPHORE].name);
        report.goals.at_most(what, sum, 1.0);
    }
    report.table("Pressed: time per reservation of each step, 4 KiB, without a scheduler (in brackets: ours / theirs)", table);
    report.lines(
        "pressed",
        Lines {
            title: "Pressed: to park, to be handed a buffer and to collect it".into(),
            across: "reservations that wait",
            lines,
        },
    );
    in_tasks(options, report, &runtime);
}

/// The one who finds nobody waiting has more to do: all that is queued is looked for before it parks.
fn first(options: &Options, report: &mut Report, runtime: &Runtime) {
    let times = options.pick(2000, 500);
    let mut peers = [
        first_of::<Offheap>(times, runtime),
        first_of::<Permits>(times, runtime),
        first_of::<Semaphore>(times, runtime),
    ];
    let all = interleave(options.pick(41, 7), &mut peers);
    let ratios = ratios(&all, |&ns| ns);
    let mut table = Table::new(&["peer", "first poll to park (ours / theirs)"]);
    for (peer, series) in all.iter().enumerate() {
        table.row([
            series.name.to_string(),
            cell(peer, series.median(|&ns| ns), &ratios),
        ]);
    }
    let what = format!("first poll to park, nobody waiting / {}", all[PERMITS].name);
    report.goals.at_most(what, ratios[PERMITS], 1.0);
    report.table(
        "Parking where nobody waits yet: from the first poll to its end",
        table,
    );
}

fn first_of<P: Limited>(times: u32, runtime: &Runtime) -> Runner<'_, f64> {
    let peer = build::<P>(runtime, SIZE, SIZE);
    let held = take_all(&peer, SIZE, 1);
    runner::<P, _>(move || {
        let _everything = &held;
        first_in_queue(&peer, SIZE, times)
    })
}

fn steps<P: Limited>(waiters: usize, runtime: &Runtime) -> Runner<'_, Steps> {
    let peer = build::<P>(runtime, limit(SIZE, waiters), SIZE);
    let mut held = take_all(&peer, SIZE, waiters);
    // As many times as it takes for the clock to see something.
    let times = (1024 / waiters).max(1);
    runner::<P, _>(move || {
        let all: Vec<Steps> = (0..times)
            .map(|_| hand_over(&peer, SIZE, &mut held))
            .collect();
        let mean = |figure: fn(&Steps) -> f64| all.iter().map(figure).sum::<f64>() / times as f64;
        Steps {
            park: mean(|steps| steps.park),
            drop: mean(|steps| steps.drop),
            collect: mean(|steps| steps.collect),
        }
    })
}

fn in_tasks(options: &Options, report: &mut Report, runtime: &Runtime) {
    let mut table = Table::new(&["tasks", Offheap::NAME, Permits::NAME, Semaphore::NAME]);
    for tasks in WAITERS {
        let turns = (options.pick(1 << 15, 1 << 13) / tasks).max(1);
        let mut peers = [
            going_round::<Offheap>(tasks, turns, runtime),
            going_round::<Permits>(tasks, turns, runtime),
            going_round::<Semaphore>(tasks, turns, runtime),
        ];
        let all = interleave(options.pick(15, 3), &mut peers);
        let ratios = ratios(&all, |&ns| ns);
        let cells = all
            .iter()
            .enumerate()
            .map(|(peer, series)| cell(peer, series.median(|&ns| ns), &ratios));
        table.row([tasks.to_string()].into_iter().chain(cells));
        for peer in [PERMITS, SEMAPHORE] {
            let what = format!("one buffer going round {tasks} tasks / {}", all[peer].name);
            report.goals.at_most(what, ratios[peer], 1.0);
        }
    }
    report.table("One buffer going round tasks of one worker: time per hand-over (in brackets: ours / theirs)", table);
}

fn going_round<P: Limited>(tasks: usize, turns: usize, runtime: &Runtime) -> Runner<'_, f64> {
    let peer = build::<P>(runtime, SIZE, SIZE);
    runner::<P, _>(move || runtime.block_on(rounds(peer.clone(), SIZE, tasks, turns)))
}

fn add<T>(lines: &mut Vec<Line>, series: &Series<T>, waiters: usize, ns: f64) {
    let point = (waiters as f64, ns);
    match lines.iter_mut().find(|line| line.name == series.name) {
        Some(line) => line.points.push(point),
        None => lines.push(Line {
            name: series.name,
            points: vec![point],
        }),
    }
}
