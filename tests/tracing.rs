//! What the pool tells `tracing`: a span for each parked reservation, events for what happens to the pool, and nothing where a
//! buffer is dropped or a lock is held.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use offheap::{Pool, ReserveOwned};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use by_hand::ByHand;
use starved::starved;

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/starved.rs"]
mod starved;

const KIB: usize = 1 << 10;

type Fields = BTreeMap<&'static str, String>;

#[derive(Default)]
struct Log {
    /// Spans in the order of their ids, which count from one.
    spans: Vec<(Level, Fields, bool)>,
    events: Vec<(Level, Fields)>,
}

/// Remembers all spans and events, and calls `meddle` at each of them, as a subscriber may do what it likes.
#[derive(Clone)]
struct Memory {
    log: Arc<Mutex<Log>>,
    meddle: Arc<dyn Fn() + Send + Sync>,
    ids: Arc<AtomicU64>,
}

thread_local! {
    /// What this thread must not be told of.
    static SILENT: RefCell<Option<&'static str>> = const { RefCell::new(None) };
}

struct Take<'a>(&'a mut Fields);

impl Visit for Take<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Memory {
    fn new(meddle: impl Fn() + Send + Sync + 'static) -> Memory {
        Memory {
            log: Arc::default(),
            meddle: Arc::new(meddle),
            ids: Arc::default(),
        }
    }

    fn called(&self) {
        SILENT.with(|silent| {
            if let Some(what) = *silent.borrow() {
                panic!("told during {what}");
            }
        });
        (self.meddle)();
    }

    /// The spans that are over, as position, bytes and outcome.
    fn ended(&self) -> Vec<(String, String, String)> {
        let log = self.log.lock().unwrap();
        let ended = log.spans.iter().filter(|(.., ended)| *ended);
        let text = |fields: &Fields, key| fields.get(key).cloned().unwrap_or_default();
        ended
            .map(|(_, f, _)| (text(f, "position"), text(f, "bytes"), text(f, "outcome")))
            .collect()
    }

    /// Level and message of the events so far; forgets them.
    fn take_events(&self) -> Vec<(Level, String)> {
        let events = std::mem::take(&mut self.log.lock().unwrap().events);
        let message = |(level, fields): (Level, Fields)| (level, fields["message"].clone());
        events.into_iter().map(message).collect()
    }
}

impl Subscriber for Memory {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("offheap")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.called();
        let mut fields = Fields::from([("name", span.metadata().name().to_owned())]);
        span.record(&mut Take(&mut fields));
        let mut log = self.log.lock().unwrap();
        log.spans.push((*span.metadata().level(), fields, false));
        Id::from_u64(self.ids.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.called();
        let mut log = self.log.lock().unwrap();
        values.record(&mut Take(&mut log.spans[span.into_u64() as usize - 1].1));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.called();
        let mut fields = Fields::new();
        event.record(&mut Take(&mut fields));
        let mut log = self.log.lock().unwrap();
        log.events.push((*event.metadata().level(), fields));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn try_close(&self, span: Id) -> bool {
        self.called();
        self.log.lock().unwrap().spans[span.into_u64() as usize - 1].2 = true;
        true
    }
}

fn pool() -> (Pool, tokio::runtime::Runtime) {
    starved(Pool::builder().name("p").limit(64 * KIB).shards(1))
}

fn parked(pool: &Pool, n: usize) -> ByHand<ReserveOwned> {
    let mut waiting = ByHand::new(Box::pin(pool.reserve_owned(n)));
    assert!(waiting.poll().is_pending());
    waiting
}

/// Runs `f`, during which nothing may be told.
fn silently<R>(what: &'static str, f: impl FnOnce() -> R) -> R {
    SILENT.with(|silent| silent.replace(Some(what)));
    let result = f();
    SILENT.with(|silent| silent.replace(None));
    result
}

fn text(position: u32, bytes: usize, outcome: &str) -> (String, String, String) {
    (position.to_string(), bytes.to_string(), outcome.to_owned())
}

#[test]
fn a_parked_reservation_is_a_span() {
    let memory = Memory::new(|| ());
    let _default = tracing::subscriber::set_default(memory.clone());
    let (pool, _runtime) = pool();
    let held = silently("a reservation that finds memory", || {
        pool.try_reserve(64 * KIB).unwrap()
    });
    let mut first = parked(&pool, 100);
    let second = parked(&pool, 2000);
    let mut third = parked(&pool, 30 * KIB);
    assert_eq!(memory.ended(), []);
    {
        let log = memory.log.lock().unwrap();
        let (level, fields, _) = &log.spans[1];
        assert_eq!(*level, Level::DEBUG);
        assert_eq!(fields["name"], "offheap::parked");
        assert_eq!((&*fields["pool"], &*fields["bytes"]), ("p", "2000"));
        assert_eq!(fields["position"], "2");
    }

    drop(second);
    assert_eq!(memory.ended(), [text(2, 2000, "cancelled")]);
    silently("the drop of a buffer", || drop(held));
    assert_eq!(memory.ended().len(), 1, "whoever waited tells it itself");
    assert!(first.poll().is_ready() && third.poll().is_ready());
    assert_eq!(
        memory.ended(),
        [
            text(1, 100, "granted"),
            text(2, 2000, "cancelled"),
            text(3, 30 * KIB, "granted")
        ]
    );
    let log = memory.log.lock().unwrap();
    assert!(log.spans[0].1["wait_us"].parse::<u64>().is_ok());
}

#[test]
fn pressure_and_closing_are_events() {
    let memory = Memory::new(|| ());
    let _default = tracing::subscriber::set_default(memory.clone());
    let (pool, _runtime) = pool();
    let held = pool.try_reserve(64 * KIB).unwrap();
    let mut first = parked(&pool, 1);
    let mut second = parked(&pool, 2);
    let events = memory.take_events();
    assert!(
        matches!(&events[..], [(Level::DEBUG, text)] if text.starts_with("pressed")),
        "{events:?}"
    );
    silently("the drop of a buffer", || drop(held));
    assert!(first.poll().is_ready() && second.poll().is_ready());
    let events = memory.take_events();
    assert!(
        matches!(&events[..], [(Level::DEBUG, text)] if text.starts_with("calm")),
        "{events:?}"
    );

    let _held = pool.try_reserve(64 * KIB).unwrap();
    let mut waiting = parked(&pool, 64 * KIB);
    memory.take_events();
    pool.close();
    pool.close();
    let closed = (Level::INFO, "closed".to_owned());
    let events = memory.take_events();
    assert_eq!(
        events.iter().filter(|event| **event == closed).count(),
        1,
        "{events:?}"
    );
    assert!(waiting.poll().is_ready());
    assert_eq!(memory.ended().last(), Some(&text(1, 64 * KIB, "refused")));
}

#[test]
fn a_lowered_limit_is_pressure_too() {
    let memory = Memory::new(|| ());
    let _default = tracing::subscriber::set_default(memory.clone());
    let (pool, _runtime) = pool();
    let _held = pool.try_reserve(64 * KIB).unwrap();
    pool.set_limit(32 * KIB).unwrap();
    let events = memory.take_events();
    assert!(
        matches!(&events[..], [(Level::DEBUG, text)] if text.starts_with("pressed")),
        "{events:?}"
    );
    pool.set_limit(64 * KIB).unwrap();
    let events = memory.take_events();
    assert!(
        matches!(&events[..], [(Level::DEBUG, text)] if text.starts_with("calm")),
        "{events:?}"
    );
}

#[test]
fn a_subscriber_may_use_the_pool() {
    let (pool, _runtime) = pool();
    let own = pool.clone();
    let memory = Memory::new(move || {
        // All of these take the waiters' lock.
        own.stats();
        drop(own.try_reserve(64 * KIB));
        let _ = format!("{own:?}");
    });
    let _default = tracing::subscriber::set_default(memory.clone());
    let held = pool.try_reserve(64 * KIB).unwrap();
    let mut first = parked(&pool, 1);
    let second = parked(&pool, 1);
    drop(second);
    drop(held);
    assert!(first.take_woken() && first.poll().is_ready());
    assert_eq!(memory.ended().len(), 2);
    pool.close();
}
