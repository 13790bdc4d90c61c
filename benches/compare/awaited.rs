//! The rows of pairs within a task: what awaiting costs where nobody has to wait.

use offheap_benches::figures::{interleave, Ratio, Runner, Table};
use offheap_benches::peers::{Backoff, Limited, Offheap, Semaphore};
use offheap_benches::scenario::awaited::{time, Way};
use offheap_benches::scenario::runtime;
use tokio::runtime::Runtime;

use super::{build, cell, ratios, runner, Options, Report, KIB};

const SIZE: usize = 4 * KIB;
const ROOM: usize = 512;

pub(crate) fn compare(options: &Options, report: &mut Report) {
    let runtime = runtime(1);
    let pairs = options.pick(50_000, 10_000);
    let mut peers = Vec::new();
    add::<Offheap>(&mut peers, pairs, &runtime);
    add::<Semaphore>(&mut peers, pairs, &runtime);
    add::<Backoff>(&mut peers, pairs, &runtime);
    let all = interleave(options.pick(61, 7), &mut peers);

    let tried = ratios(&all, |&ns| ns);
    let mut table = Table::new(&["peer", "without a future", "awaited", "awaited / without"]);
    for (number, both) in all.chunks(2).enumerate() {
        let [without, awaited] = [&both[0], &both[1]].map(|series| series.figures(|&ns| ns));
        let ratio = Ratio::of(&awaited, &without);
        let ours = all[1].figures(|&ns| ns);
        let versus = [Ratio::of(&ours, &ours), Ratio::of(&ours, &awaited)];
        table.row([
            both[0].name.to_string(),
            cell(2 * number, both[0].median(|&ns| ns), &tried),
            cell(number.min(1), both[1].median(|&ns| ns), &versus),
            format!("{:.2} ×", ratio.median),
        ]);
        if number == 0 {
            let goal = "reserve().await in a task, 4 KiB / try_reserve there".to_string();
            report.goals.at_most(goal, ratio, 1.15);
        }
    }
    report.table(
        "Awaited: time per pair within a task, 4 KiB (in brackets: ours / theirs)",
        table,
    );
}

/// Both ways of a peer, one after the other.
fn add<'a, P: Limited>(peers: &mut Vec<Runner<'a, f64>>, pairs: u64, runtime: &'a Runtime) {
    let peer = build::<P>(runtime, ROOM * SIZE, SIZE);
    for way in [Way::Tried, Way::Awaited] {
        let peer = peer.clone();
        peers.push(runner::<P, _>(move || {
            let time = runtime.block_on(time(way, peer.clone(), SIZE, pairs));
            time.as_nanos() as f64 / pairs as f64
        }));
    }
}
