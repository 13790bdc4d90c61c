//! The rows of pairs: how long it takes to get a buffer and to give it back.

use std::iter::once;
use std::time::Duration;

use offheap_benches::figures::{bytes, interleave, times, Ratio, Runner, Series, Table};
use offheap_benches::peers::{about, visit, Heap, Kind, Offheap, Peer, Semaphore, Visitor};
use offheap_benches::scenario::local_runtime;
use offheap_benches::scenario::pair::{plans, Pattern, Plan};

use super::plot::{Bars, Line, Lines, Panel, BYTES};
use super::{cell, ratios, runner, Options, Report, MS};

/// A row of measurements, which is a column of a table.
struct Row {
    name: String,
    plan: Plan,
    all: Vec<Series<f64>>,
}

pub(crate) fn compare(options: &Options, report: &mut Report) {
    let mut plans = plans();
    let alone = {
        // The system's allocator takes no locks while a process has but one thread. No server is like that, but many a
        // benchmark is, so here is such a row, before anyone starts a thread: in a runtime the pool starts none.
        let runtime = local_runtime();
        let _entered = runtime.enter();
        let name = format!("{}, alone in its process", bytes(plans[0].size));
        Row::measure(options, name, plans[0])
    };
    let what = format!("{}, alone in its process", plans[0].name());
    alone.goal_of(report, &what, Heap::NAME, 1.0);
    alone.goal_of(report, &what, Semaphore::NAME, 0.4);

    // From here on there is another thread: the reclaimer of a pool that is built outside a runtime.
    plans.sort_by_key(|plan| (plan.pattern as u8, plan.threads, plan.size));
    let mut groups: Vec<Vec<Row>> = Vec::new();
    for plan in plans {
        let row = Row::measure(options, bytes(plan.size), plan);
        row.goals(report);
        match groups.last_mut() {
            Some(group) if group[0].plan.group() == plan.group() => group.push(row),
            _ => groups.push(vec![row]),
        }
    }
    plots(report, &groups);
    groups[0].push(alone);
    for group in &groups {
        let (pattern, threads) = group[0].plan.group();
        let title = format!(
            "Pair, {pattern}, {threads}: time per pair and thread (in brackets: ours / theirs)"
        );
        report.table(&title, table(group));
    }
}

fn table(group: &[Row]) -> Table {
    let names = group.iter().map(|row| row.name.as_str());
    let head: Vec<_> = once("peer").chain(names).collect();
    let mut table = Table::new(&head);
    for peer in about().iter().map(|about| about.name) {
        if group.iter().any(|row| row.find(peer).is_some()) {
            table.row(once(peer.to_string()).chain(group.iter().map(|row| row.cell(peer))));
        }
    }
    table
}

impl Row {
    fn measure(options: &Options, name: String, plan: Plan) -> Row {
        let round = options.pick(3 * MS, MS);
        let runners = Vec::new();
        let mut add = Add {
            plan,
            round,
            runners,
        };
        visit(&mut add);
        let all = interleave(options.pick(31, 7), &mut add.runners);
        Row { name, plan, all }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|series| series.name == name)
    }

    fn median(&self, peer: usize) -> f64 {
        self.all[peer].median(|&ns| ns)
    }

    fn ratio(&self, peer: usize) -> Ratio {
        ratios(&self.all, |&ns| ns)[peer]
    }

    fn cell(&self, name: &str) -> String {
        match self.find(name) {
            Some(peer) => cell(peer, self.median(peer), &ratios(&self.all, |&ns| ns)),
            None => "–".into(),
        }
    }

    /// Of those of these kinds, the one with the lowest median.
    fn best(&self, kinds: impl Fn(Kind) -> bool) -> usize {
        let peers = (0..self.all.len()).filter(|&peer| kinds(kind(self.all[peer].name)));
        let best = peers.min_by(|&a, &b| self.median(a).total_cmp(&self.median(b)));
        best.expect("there are peers of each kind")
    }

    /// What must be shown of this row.
    fn goals(&self, report: &mut Report) {
        use Pattern::{Cross, Lifo, Window};
        let what = self.plan.name();
        match (self.plan.pattern, self.plan.threads, self.plan.size >> 10) {
            (Lifo, 1, 4) => {
                self.goal_fastest(report, &what, 0.9);
                self.goal_of(report, &what, Semaphore::NAME, 0.15);
            }
            (Lifo, 1, 16 | 64) => self.goal_fastest(report, &what, 0.5),
            (Lifo, 2, 4) => {
                self.goal_fastest(report, &what, 0.9);
                self.goal_of(report, &what, Semaphore::NAME, 0.03);
            }
            (Window, 1, 4 | 16) => self.goal_fastest(report, &what, 0.9),
            (Cross, ..) => {
                let best = self.best(|kind| !matches!(kind, Kind::Ours | Kind::Floor));
                let name = self.all[best].name;
                let goal = format!("{what} / best of all peers ({name})");
                report.goals.at_most(goal, self.ratio(best), 0.9);
                let floor = self.best(|kind| kind == Kind::Floor);
                let goal = format!("{what} / floor");
                report.goals.at_most(goal, self.ratio(floor), 1.6);
            }
            _ => {}
        }
    }

    fn goal_fastest(&self, report: &mut Report, what: &str, most: f64) {
        let fastest = self.best(|kind| kind == Kind::Allocator);
        let goal = format!("{what} / fastest allocator ({})", self.all[fastest].name);
        report.goals.at_most(goal, self.ratio(fastest), most);
    }

    fn goal_of(&self, report: &mut Report, what: &str, name: &str, most: f64) {
        if let Some(peer) = self.find(name) {
            report
                .goals
                .at_most(format!("{what} / {name}"), self.ratio(peer), most);
        }
    }
}

fn kind(name: &str) -> Kind {
    let about = about();
    let found = about.iter().find(|about| about.name == name);
    found.expect("a peer").kind
}

/// The peers of a row.
struct Add<'a> {
    plan: Plan,
    round: Duration,
    runners: Vec<Runner<'a, f64>>,
}

impl Visitor for Add<'_> {
    fn visit<P: Peer>(&mut self) {
        if self.plan.suits::<P>() {
            self.runners.push(pairs::<P>(self.plan, self.round));
        }
    }
}

/// Nanoseconds per pair, in rounds of about the same length.
fn pairs<'a, P: Peer>(plan: Plan, round: Duration) -> Runner<'a, f64> {
    /// What the clock tells apart well enough.
    const TRIAL: Duration = Duration::from_micros(50);
    let peer = P::new(plan.limit(), plan.size);
    // Some take nanoseconds, and some milliseconds.
    let mut pairs = 4;
    let mut trial = plan.time(&peer, pairs);
    while trial < TRIAL {
        pairs *= 4;
        trial = plan.time(&peer, pairs);
    }
    let pairs = (pairs as f64 * round.as_secs_f64() / trial.as_secs_f64()).max(4.0) as u64;
    runner::<P, _>(move || plan.time(&peer, pairs).as_nanos() as f64 / pairs as f64)
}

fn plots(report: &mut Report, groups: &[Vec<Row>]) {
    let panel = |row: &Row| Panel {
        title: row.plan.name(),
        bars: row
            .all
            .iter()
            .enumerate()
            .map(|(peer, series)| (series.name, row.median(peer)))
            .collect(),
    };
    let of_size = |size| {
        move |group: &Vec<Row>| {
            group
                .iter()
                .find(move |row| row.plan.size == size)
                .map(panel)
        }
    };
    report.bars(
        "pairs",
        Bars {
            title: "Time per pair and thread, 4 KiB".into(),
            panels: groups.iter().filter_map(of_size(4 << 10)).collect(),
        },
    );
    let cross = |row: &&Row| row.plan.pattern == Pattern::Cross;
    report.bars(
        "cross",
        Bars {
            title: "One thread takes, another drops: time per pair".into(),
            panels: groups.iter().flatten().filter(cross).map(panel).collect(),
        },
    );
    // All of them would be a thicket.
    let shown =
        |name: &str| matches!(kind(name), Kind::Ours | Kind::Allocator) || name == Semaphore::NAME;
    let sizes = &groups[0];
    let line = |series: &Series<f64>| Line {
        name: series.name,
        points: sizes
            .iter()
            .filter_map(|row| Some((row.plan.size as f64, row.median(row.find(series.name)?))))
            .collect(),
    };
    report.lines(
        "sizes",
        Lines {
            title: "LIFO, one thread: time per pair, by size of the buffer".into(),
            across: BYTES,
            lines: sizes[0]
                .all
                .iter()
                .filter(|series| shown(series.name))
                .map(line)
                .collect(),
        },
    );
    let ours = groups.iter().flatten().map(|row| {
        let best = row.best(|kind| kind == Kind::Allocator);
        format!(
            "{} {} of {}",
            row.plan.name(),
            times(row.ratio(best).median),
            row.all[best].name
        )
    });
    debug_assert_eq!(sizes[0].all[0].name, Offheap::NAME);
    report.text(format!(
        "Beside the fastest allocator of each row: {}.\n",
        ours.collect::<Vec<_>>().join("; ")
    ));
}
