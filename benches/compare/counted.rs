//! What has been counted under valgrind, for the page: the counts that `benches/count` keeps.

use std::collections::BTreeMap;

use offheap_benches::figures::Table;
use serde::Deserialize;

use super::{Options, Report};

const KEPT: &str = include_str!("../instructions.json");

/// Per time that the operation is done.
#[derive(Deserialize)]
struct Counts {
    instructions: f64,
    system_calls: f64,
    heap_blocks: f64,
}

pub(crate) fn compare(_: &Options, report: &mut Report) {
    let kept: BTreeMap<String, Counts> =
        serde_json::from_str(KEPT).expect("as `benches/count` wrote it");
    let mut table = Table::new(&["operation", "instructions", "system calls", "heap blocks"]);
    for (name, counts) in &kept {
        table.row([
            name.replace('_', " "),
            format!("{:.0}", counts.instructions),
            format!("{:.3}", counts.system_calls),
            format!("{:.3}", counts.heap_blocks),
        ]);
    }
    report.table("Counted under valgrind, kept by `benches/count`", table);
    if let Some(counts) = kept.get("drop_while_pressed") {
        let goal = "drop while pressed: no allocation, no system call (counted)".to_string();
        let figure = format!("{} and {}", counts.heap_blocks, counts.system_calls);
        let none = counts.heap_blocks == 0.0 && counts.system_calls == 0.0;
        report.goals.note(goal, figure, none);
    }
}
