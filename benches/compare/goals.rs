//! What must be shown, and whether it was.

use offheap_benches::figures::{Ratio, Table};

/// The goals so far, in the order in which they were looked at.
#[derive(Default)]
pub(crate) struct Goals(Vec<[String; 3]>);

impl Goals {
    /// A ratio that must not be above `most`.
    pub(crate) fn at_most(&mut self, what: String, ratio: Ratio, most: f64) {
        let holds = verdict(ratio.median <= most, ratio.low <= most);
        self.push(format!("{what}: ≤ {most} ×"), quartiles(ratio), holds);
    }

    /// A ratio that must not be below `least`.
    pub(crate) fn at_least(&mut self, what: String, ratio: Ratio, least: f64) {
        let holds = verdict(ratio.median >= least, ratio.high >= least);
        self.push(format!("{what}: ≥ {least} ×"), quartiles(ratio), holds);
    }

    /// Anything else.
    pub(crate) fn note(&mut self, goal: String, figure: String, holds: bool) {
        self.push(goal, figure, verdict(holds, false));
    }

    fn push(&mut self, goal: String, figure: String, holds: &str) {
        self.0.push([goal, figure, holds.to_string()]);
    }

    /// All of them, and how many hold.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new(&["goal", "median (quartiles) over rounds", "holds"]);
        self.0.iter().for_each(|goal| table.row(goal.clone()));
        let held = self.0.iter().filter(|[.., holds]| holds == YES).count();
        format!("{table}\n{held} of {} hold.\n", self.0.len())
    }
}

const YES: &str = "yes";

/// Whether a goal is met by the median, or at least by the better quarter of the rounds.
fn verdict(median: bool, quarter: bool) -> &'static str {
    match (median, quarter) {
        (true, _) => YES,
        (false, true) => "within the noise",
        (false, false) => "**no**",
    }
}

fn quartiles(ratio: Ratio) -> String {
    let decimals = match ratio.median {
        median if median < 0.1 => 4,
        median if median < 10.0 => 2,
        _ => 0,
    };
    let [low, median, high] =
        [ratio.low, ratio.median, ratio.high].map(|ratio| format!("{ratio:.decimals$}"));
    format!("{median} ({low} – {high})")
}
