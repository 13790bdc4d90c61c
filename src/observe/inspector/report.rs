//! All that the inspector says of a pool, as JSON.

use std::time::Instant;

use super::history::History;
use super::json::Object;
use crate::arena::{Class, Look};
use crate::engine::{Engine, Histogram, BATCH_EDGES, WAIT_EDGES};
use crate::observe::{classes, holders, stats, Stats};
use crate::pool::Inner;

/// A map of a class has at most this many cells; a cell stands for as many blocks as it takes.
const CELLS: usize = 512;
/// Waiters and holders that are listed; the rest is only counted.
const LISTED: usize = 50;

/// One pool. O(blocks).
pub(super) fn write(o: &mut Object<'_>, pool: &Inner, history: &History, resident: Option<u64>) {
    let engine = pool.engine();
    let tallies = &engine.counters.tallies;
    o.string("name", pool.name());
    o.flag("closed", engine.is_closed());
    o.flag("pressed", engine.is_pressed() && !engine.is_closed());
    o.flag("reclaimer", engine.bell().is_listening());
    o.object("stats", |o| write_stats(o, &stats(engine)));
    o.number("max_reserve", engine.max_reserve() as u64);
    o.maybe("resident", resident);
    o.object("rejected", |o| {
        for (reason, count) in tallies.rejected() {
            o.number(reason, count);
        }
    });
    write_classes(o, engine);
    write_waiters(o, engine);
    write_holders(o, engine);
    o.object("waits_ns", |o| {
        write_histogram(o, &tallies.waits, &WAIT_EDGES)
    });
    o.object("batches", |o| {
        write_histogram(o, &tallies.batches, &BATCH_EDGES)
    });
    o.object("history", |o| history.write(o));
}

fn write_stats(o: &mut Object<'_>, stats: &Stats) {
    o.number("limit", stats.limit);
    o.number("committed", stats.committed);
    o.number("live", stats.live);
    o.number("requested", stats.requested);
    o.number("queued", stats.queued);
    o.number("stranded", stats.stranded);
    o.number("metadata", stats.metadata);
    o.number("peak_live", stats.peak_live);
    o.number("buffers", stats.buffers);
    o.number("waiting", stats.waiting);
    o.number("waiting_bytes", stats.waiting_bytes);
    o.number("reserved_total", stats.reserved_total);
    o.number("reclaimed_total", stats.reclaimed_total);
    o.number("parked_total", stats.parked_total);
    o.number("cancelled_total", stats.cancelled_total);
    o.number("helped_total", stats.helped_total);
    o.number("cleaned_bytes_total", stats.cleaned_bytes_total);
    o.number("handed_over_total", stats.handed_over_total);
}

fn write_classes(o: &mut Object<'_>, engine: &Engine) {
    let arena = engine.arena();
    let figures = classes(engine);
    let of_size = |size| arena.touched().find(|class| class.size() as u64 == size);
    o.objects("classes", figures, |o, figures| {
        o.number("size", figures.size);
        o.number("live", figures.live);
        o.number("queued", figures.queued);
        o.number("clean", figures.clean);
        o.number("stranded", figures.stranded);
        o.number("requested", figures.requested);
        if let Some(class) = of_size(figures.size) {
            write_map(o, class);
        }
    });
}

/// The class's blocks in order, as cells: how many blocks of each are live, and how many queued.
fn write_map(o: &mut Object<'_>, class: &Class) {
    let blocks = class.look();
    let per_cell = blocks.len().div_ceil(CELLS).max(1);
    let mut cells = vec![(0, 0); blocks.len().div_ceil(per_cell)];
    o.number("blocks", blocks.len() as u64);
    for (index, look) in blocks.enumerate() {
        let cell: &mut (u64, u64) = &mut cells[index / per_cell];
        match look {
            Look::Live => cell.0 += 1,
            Look::Queued => cell.1 += 1,
            Look::Clean => {}
        }
    }
    o.number("per_cell", per_cell as u64);
    o.numbers("live_cells", cells.iter().map(|cell| cell.0));
    o.numbers("queued_cells", cells.iter().map(|cell| cell.1));
}

fn write_waiters(o: &mut Object<'_>, engine: &Engine) {
    let waiters = engine.waiters(LISTED);
    let now = Instant::now();
    o.objects("waiters", waiters, |o, waiter| {
        o.number("bytes", waiter.bytes);
        let age = now.saturating_duration_since(waiter.since);
        o.number("age_ms", age.as_millis() as u64);
        o.string("site", &waiter.site.to_string());
    });
}

fn write_holders(o: &mut Object<'_>, engine: &Engine) {
    let holders = holders(engine);
    o.number("holders_total", holders.len() as u64);
    o.objects("holders", holders.iter().take(LISTED), |o, holder| {
        o.string("site", &holder.location.to_string());
        o.number("count", holder.count);
        o.number("bytes", holder.bytes);
        o.number("oldest_ms", holder.oldest.as_millis() as u64);
        o.number("pinned_waste", holder.pinned_waste);
    });
}

/// Upper edges, and how many values are in each bucket; one more bucket holds those above the last edge.
fn write_histogram(o: &mut Object<'_>, histogram: &Histogram, edges: &[u64]) {
    o.numbers("upto", edges.iter().copied());
    o.numbers("counts", histogram.totals().map(|(count, _)| count));
}
