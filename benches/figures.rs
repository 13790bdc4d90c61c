//! Medians, ratios and tables.

use std::fmt::{self, Display, Formatter, Write};

/// Something that is measured again and again, by turns with others.
pub struct Runner<'a, T> {
    /// Who it is.
    pub name: &'static str,
    /// One round.
    pub run: Box<dyn FnMut() -> T + 'a>,
}

/// What was measured of one runner, round by round.
#[derive(Debug)]
pub struct Series<T> {
    /// Who it is.
    pub name: &'static str,
    /// A result per round.
    pub rounds: Vec<T>,
}

/// Runs all runners by turns, after a round that does not count. Each round starts with another one, so that none is always
/// behind the same neighbour.
pub fn interleave<T>(rounds: usize, runners: &mut [Runner<'_, T>]) -> Vec<Series<T>> {
    let mut series: Vec<Series<T>> = runners
        .iter()
        .map(|runner| Series {
            name: runner.name,
            rounds: Vec::with_capacity(rounds),
        })
        .collect();
    runners.iter_mut().for_each(|runner| drop((runner.run)()));
    for round in 0..rounds {
        for turn in 0..runners.len() {
            let who = (round + turn) % runners.len();
            series[who].rounds.push((runners[who].run)());
        }
    }
    series
}

impl<T> Series<T> {
    /// One figure of each round.
    pub fn figures(&self, figure: impl Fn(&T) -> f64) -> Vec<f64> {
        self.rounds.iter().map(figure).collect()
    }

    /// The median of one figure.
    pub fn median(&self, figure: impl Fn(&T) -> f64) -> f64 {
        median(self.figures(figure))
    }
}

/// Quartiles of a ratio, taken round by round: what both suffered from at the same time cancels out.
#[derive(Debug, Clone, Copy)]
pub struct Ratio {
    /// A quarter of the rounds is below.
    pub low: f64,
    /// The middle.
    pub median: f64,
    /// A quarter of the rounds is above.
    pub high: f64,
}

impl Ratio {
    /// Of two runners' figures.
    pub fn of(ours: &[f64], theirs: &[f64]) -> Ratio {
        let pairs = ours.iter().zip(theirs);
        let mut ratios: Vec<f64> = pairs.map(|(&ours, &theirs)| ratio(ours, theirs)).collect();
        ratios.sort_by(f64::total_cmp);
        Ratio {
            low: quantile(&ratios, 0.25),
            median: quantile(&ratios, 0.5),
            high: quantile(&ratios, 0.75),
        }
    }
}

/// The ratio, where nothing to nothing is 1.
pub fn ratio(a: f64, b: f64) -> f64 {
    if a == b {
        1.0
    } else {
        a / b
    }
}

/// The middle one.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    quantile(&figures, 0.5)
}

/// The figure at `q` (0 to 1) of sorted figures; not a number where there are none.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * q).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// Nanoseconds with three digits and the fitting unit.
pub fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let decimals = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// A size with the fitting unit.
pub fn bytes(n: usize) -> String {
    match n {
        n if n < 1 << 10 => format!("{n} B"),
        n if n < 1 << 20 => format!("{} KiB", n >> 10),
        n if n < 1 << 30 => format!("{} MiB", n >> 20),
        n => format!("{} GiB", n >> 30),
    }
}

/// A ratio as the tables have it.
pub fn times(ratio: f64) -> String {
    let decimals = if ratio < 0.1 { 4 } else { 2 };
    format!("{ratio:.decimals$} ×")
}

/// A Markdown table.
#[derive(Debug)]
pub struct Table {
    columns: usize,
    text: String,
}

impl Table {
    /// With a head.
    pub fn new(head: &[&str]) -> Self {
        let mut table = Table {
            columns: head.len(),
            text: String::new(),
        };
        table.row(head.iter().map(|cell| cell.to_string()));
        table.row(head.iter().map(|_| "---".to_string()));
        table
    }

    /// One more row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut columns = 0;
        for cell in cells {
            let _ = write!(self.text, "| {cell} ");
            columns += 1;
        }
        debug_assert_eq!(columns, self.columns, "ragged table");
        self.text.push_str("|\n");
    }

    /// Prints it under a title.
    pub fn print(&self, title: &str) {
        println!("\n### {title}\n\n{self}");
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
