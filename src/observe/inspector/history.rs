//! What a pool did in the last minutes: a sample a second of what can be had without looking at every block.

use std::collections::VecDeque;
use std::time::Duration;

use super::json::Object;
use crate::engine::Engine;
use crate::sync::Ordering;

/// How often a pool is looked at.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// Ten minutes.
const SAMPLES: usize = 600;

#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Sample>);

/// Bytes, except where it says otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    limit: u64,
    committed: u64,
    live: u64,
    resident: Option<u64>,
    /// Reservations that wait.
    waiting: u64,
    /// The rest are totals.
    parked: u64,
    handed_over: u64,
    cleaned: u64,
}

impl Sample {
    pub(super) fn of(engine: &Engine, resident: Option<u64>) -> Sample {
        let counters = &engine.counters;
        let committed = engine.committed();
        Sample {
            limit: engine.limit(),
            committed,
            live: engine.live_estimate().min(committed),
            resident,
            waiting: engine.waiting().0,
            parked: counters.parked.load(Ordering::Relaxed),
            handed_over: counters.handed_over.load(Ordering::Relaxed),
            cleaned: counters.cleaned_bytes.load(Ordering::Relaxed),
        }
    }
}

impl History {
    pub(super) fn push(&mut self, sample: Sample) {
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// One list for each figure, oldest first.
    pub(super) fn write(&self, o: &mut Object<'_>) {
        let mut list = |key: &str, figure: fn(&Sample) -> u64| {
            o.numbers(key, self.0.iter().map(figure));
        };
        list("limit", |sample| sample.limit);
        list("committed", |sample| sample.committed);
        list("live", |sample| sample.live);
        list("waiting", |sample| sample.waiting);
        list("parked", |sample| sample.parked);
        list("handed_over", |sample| sample.handed_over);
        list("cleaned", |sample| sample.cleaned);
        if self.0.iter().all(|sample| sample.resident.is_some()) {
            list("resident", |sample| sample.resident.unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::Json;
    use super::*;

    #[test]
    fn the_oldest_samples_go_first() {
        let mut history = History::default();
        for n in 0..SAMPLES as u64 + 2 {
            history.push(Sample {
                limit: n,
                committed: 0,
                live: 0,
                resident: None,
                waiting: 0,
                parked: 0,
                handed_over: 0,
                cleaned: 0,
            });
        }
        let text = Json::object(|o| history.write(o));
        assert!(text.starts_with(r#"{"limit":[2,3,"#), "{text}");
        assert!(!text.contains("resident"));
    }
}
