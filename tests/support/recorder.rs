//! A recorder for the `metrics` facade that remembers everything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// What was recorded under a name and its labels.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Gauge(f64),
    Counter(u64),
    /// Each value, and how often.
    Histogram(Vec<(f64, usize)>),
}

#[derive(Debug, Default)]
struct Book {
    /// By name and labels, such as `offheap_live_bytes{pool=ingress}`.
    values: BTreeMap<String, Value>,
    /// By name: its kind, unit and description.
    described: BTreeMap<String, (&'static str, Option<Unit>, String)>,
}

/// Remembers everything. Clones are the same recorder.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Book>>);

impl Memory {
    pub(crate) fn get(&self, key: &str) -> Option<Value> {
        self.0.lock().unwrap().values.get(key).cloned()
    }

    pub(crate) fn gauge(&self, key: &str) -> f64 {
        match self.get(key) {
            Some(Value::Gauge(value)) => value,
            other => panic!("{key} is {other:?}"),
        }
    }

    pub(crate) fn counter(&self, key: &str) -> u64 {
        match self.get(key) {
            Some(Value::Counter(value)) => value,
            other => panic!("{key} is {other:?}"),
        }
    }

    pub(crate) fn histogram(&self, key: &str) -> Vec<(f64, usize)> {
        match self.get(key) {
            Some(Value::Histogram(values)) => values,
            other => panic!("{key} is {other:?}"),
        }
    }

    /// All keys, sorted.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap().values.keys().cloned().collect()
    }

    /// Kind, unit and description of a name.
    pub(crate) fn described(&self, name: &str) -> Option<(&'static str, Option<Unit>, String)> {
        self.0.lock().unwrap().described.get(name).cloned()
    }

    fn describe(&self, name: KeyName, kind: &'static str, unit: Option<Unit>, text: SharedString) {
        let mut book = self.0.lock().unwrap();
        let name = name.as_str().to_owned();
        book.described.insert(name, (kind, unit, text.into_owned()));
    }

    fn slot(&self, key: &Key, empty: Value) -> Slot {
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let key = format!("{}{{{}}}", key.name(), labels.join(","));
        let mut book = self.0.lock().unwrap();
        book.values.entry(key.clone()).or_insert(empty);
        Slot {
            memory: self.clone(),
            key,
        }
    }
}

impl Recorder for Memory {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(key, "counter", unit, text);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(key, "gauge", unit, text);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(key, "histogram", unit, text);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(self.slot(key, Value::Counter(0))))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(self.slot(key, Value::Gauge(0.0))))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(self.slot(key, Value::Histogram(Vec::new()))))
    }
}

struct Slot {
    memory: Memory,
    key: String,
}

impl Slot {
    fn change(&self, f: impl FnOnce(&mut Value)) {
        let mut book = self.memory.0.lock().unwrap();
        f(book.values.get_mut(&self.key).expect("registered"));
    }
}

impl CounterFn for Slot {
    fn increment(&self, by: u64) {
        self.change(|value| match value {
            Value::Counter(count) => *count += by,
            other => panic!("{other:?} is no counter"),
        });
    }

    /// As exporters do it: a counter never goes back.
    fn absolute(&self, to: u64) {
        self.change(|value| match value {
            Value::Counter(count) => *count = to.max(*count),
            other => panic!("{other:?} is no counter"),
        });
    }
}

impl GaugeFn for Slot {
    fn increment(&self, by: f64) {
        self.change(|value| match value {
            Value::Gauge(gauge) => *gauge += by,
            other => panic!("{other:?} is no gauge"),
        });
    }

    fn decrement(&self, by: f64) {
        GaugeFn::increment(self, -by);
    }

    fn set(&self, to: f64) {
        self.change(|value| *value = Value::Gauge(to));
    }
}

impl HistogramFn for Slot {
    fn record(&self, sample: f64) {
        self.record_many(sample, 1);
    }

    fn record_many(&self, sample: f64, count: usize) {
        self.change(|value| match value {
            Value::Histogram(samples) => samples.push((sample, count)),
            other => panic!("{other:?} is no histogram"),
        });
    }
}
