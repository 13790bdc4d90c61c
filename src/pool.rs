//! What a user holds: the pool and its builder.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use crate::budget::{Node, Status};
use crate::engine::{Config, Engine, HasEngine, Owned};
use crate::error::LimitError;
use crate::observe::{self, ClassStats, Holder, Recent, Stats};
use crate::reclaim::{self, Callback, Fault, FaultHandler, Need, Urgency};
use crate::sys::Injector;

/// How long queued memory stays committed if the builder is not told otherwise.
const IDLE: Duration = Duration::from_secs(10);
/// The clock of a pool has tenths of a second, and a round of ageing takes half the idle time.
const LEAST_IDLE: Duration = Duration::from_millis(200);
/// The part of the limit from which on pressure is high, if the builder is not told otherwise.
const HIGH_WATER: f64 = 0.8;
/// Publishing more often than this is a mistake.
#[cfg(feature = "metrics")]
const LEAST_PUBLISH: Duration = Duration::from_millis(10);
/// A year: nobody tells it from never, and it can be added to any time.
const MOST_IDLE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A pool of off-heap buffers under a hard byte limit.
///
/// Handles are cheap to clone; all of them are the same pool. When the last one goes, the pool closes and gives its unused
/// memory back; buffers stay valid, and the last of them unmaps the memory.
///
/// # Examples
///
/// ```
/// use bytes::BufMut;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().name("ingress").limit(64 << 10).build()?;
///
/// let mut first = pool.reserve(40_000).await?;
/// first.put_slice(b"hello");
///
/// // The limit has no room for a second one: this reservation parks until the first buffer is dropped.
/// let waiting = tokio::spawn({
///     let pool = pool.clone();
///     async move { pool.reserve(40_000).await.map(|buf| buf.capacity()) }
/// });
/// tokio::task::yield_now().await;
/// assert_eq!(pool.stats().waiting, 1);
/// drop(first);
/// assert!(waiting.await?? >= 40_000);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    engine: Owned,
}

/// What is known of a pool wherever one of its buffers is.
#[derive(Debug)]
pub(crate) struct Label {
    name: Arc<str>,
    recent: Recent,
    #[cfg(feature = "metrics")]
    publisher: observe::Publisher,
}

impl Label {
    pub(crate) fn of(engine: &Engine) -> &Label {
        let label = engine.label.get().and_then(|label| label.downcast_ref());
        label.expect("set when the pool was built")
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn largest_holders(&self, engine: &Engine) -> Vec<Holder> {
        self.recent.largest(engine)
    }
}

impl Inner {
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        Label::of(&self.engine).name()
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn publish_metrics(&self) {
        let label = Label::of(&self.engine);
        observe::publish(&label.publisher, &label.name, &self.engine);
    }
}

impl HasEngine for Pool {
    #[inline]
    fn engine(&self) -> &Engine {
        &self.inner.engine
    }
}

impl Pool {
    /// Starts to build a pool. Only a [`limit`](PoolBuilder::limit) is needed.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }

    #[cfg(feature = "inspector")]
    pub(crate) fn downgrade(&self) -> std::sync::Weak<Inner> {
        Arc::downgrade(&self.inner)
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// The hard limit in bytes.
    pub fn limit(&self) -> usize {
        self.engine().limit() as usize
    }

    /// The largest `n` that can ever be served under the present limit, in bytes.
    pub fn max_reserve(&self) -> usize {
        self.engine().max_reserve()
    }

    /// Changes the limit while the pool is in use.
    ///
    /// A raised limit serves whoever waits at once. A limit below what is committed puts the pool in debt: unused memory is
    /// given back to the OS right away, and nothing more is granted until dropped buffers have paid the rest. Waiting
    /// reservations that the new limit can never serve fail with
    /// [`TooLarge`](crate::ReserveError::TooLarge) at once.
    ///
    /// # Errors
    ///
    /// [`LimitError`] where `limit` is above the pool's [`max_limit`](PoolBuilder::max_limit); nothing changes then.
    pub fn set_limit(&self, limit: usize) -> Result<(), LimitError> {
        let max_limit = self.engine().max_limit();
        let limit = limit as u64;
        if limit > max_limit {
            return Err(LimitError {
                requested: limit,
                max_limit,
            });
        }
        self.engine().set_limit(limit);
        #[cfg(feature = "tracing")]
        self.engine().tell_pressure();
        Ok(())
    }

    /// Gives all queued memory back to the OS now; answers how many bytes that was.
    pub fn trim(&self) -> usize {
        self.engine().trim() as usize
    }

    /// The pool's figures. O(blocks): it looks at the header of every block that was ever used, and stops nobody meanwhile.
    pub fn stats(&self) -> Stats {
        observe::stats(self.engine())
    }

    /// [`stats`](Self::stats) by size class, for the classes that were ever used, smallest first. O(blocks).
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
    /// let _buf = pool.try_reserve(5000).unwrap();
    /// let classes = pool.classes();
    /// assert_eq!((classes[0].size, classes[0].live), (5120, 1));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn classes(&self) -> Vec<ClassStats> {
        observe::classes(self.engine())
    }

    /// How many bytes are really behind the pool's blocks, says the kernel: at most [`committed`](Stats::committed), and less
    /// where committed memory was not written to yet. Memory that moves from one size to another meanwhile may be counted twice.
    /// `None` where it can not be known: off Linux, without `/proc`, or where blocks come from the heap.
    ///
    /// This is the check on the books, not part of them: it reads the page tables of all address space that blocks ever used,
    /// some milliseconds per GiB. Not for every request.
    pub fn resident(&self) -> Option<u64> {
        observe::resident(self.engine())
    }

    /// Who holds the memory: live blocks by the line of code that reserved them, largest first. Every block is counted, not a
    /// sample. O(blocks).
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
    /// let _leak = pool.try_reserve(5000).unwrap();
    /// let holders = pool.holders();
    /// assert_eq!(holders[0].count, 1);
    /// assert_eq!(holders[0].location.file(), file!());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn holders(&self) -> Vec<Holder> {
        observe::holders(self.engine())
    }

    /// Hands the pool's figures to the recorder behind the [`metrics`](::metrics) facade, with the pool's name as the label `pool`.
    ///
    /// All gauges and counters are of one snapshot, as [`stats`](Self::stats) has it. For an exporter that is scraped, call
    /// this before each answer; for one that pushes, see [`publish_every`](PoolBuilder::publish_every). Pools that publish
    /// need names of their own. Tell the exporter of [`WAIT_SECONDS_BUCKETS`](crate::WAIT_SECONDS_BUCKETS) and
    /// [`BATCH_BLOCKS_BUCKETS`](crate::BATCH_BLOCKS_BUCKETS), or it may make summaries of the histograms.
    ///
    /// O(blocks), as [`stats`](Self::stats) is. Takes the queue's lock for a moment, to count who waits; the recorder is called
    /// without it. Costs reservations and drops nothing.
    ///
    /// # Panics
    ///
    /// Where the recorder does.
    ///
    /// # Examples
    ///
    /// ```
    /// // Where there is no recorder, this does nothing.
    /// let pool = offheap::Pool::builder().name("ingress").limit(1 << 20).build()?;
    /// pool.publish_metrics();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[cfg(feature = "metrics")]
    pub fn publish_metrics(&self) {
        self.inner.publish_metrics();
    }

    /// Closes the pool: waiting reservations and all later ones fail with [`Closed`](crate::ReserveError::Closed). Live buffers
    /// stay valid. Closing twice is the same as once.
    pub fn close(&self) {
        let _was_open = self.engine().close();
        #[cfg(feature = "tracing")]
        if _was_open {
            let engine = self.engine();
            tracing::info!(
                pool = self.name(),
                outstanding = engine.outstanding(),
                "closed"
            );
            engine.tell_pressure();
        }
    }

    /// Whether the pool was closed.
    pub fn is_closed(&self) -> bool {
        self.engine().is_closed()
    }

    /// Closes the pool on its first poll, and waits until no buffer is left.
    ///
    /// While it waits, [`Closed::holders`] says who still holds what; with the feature `tracing` the pool logs it each second.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting; the pool stays closed.
    pub fn closed(&self) -> Closed<'_> {
        Closed {
            pool: self,
            node: Node::new(()),
        }
    }

    /// Registers a callback for the last resort: called when a reservation has to wait though everything queued was cleaned and all soft
    /// caches have given back what they could. It is told what is missing, should drop what it can do without, and answers how many
    /// bytes that was. It is deregistered when the guard is dropped.
    ///
    /// Callbacks are called once in each episode of waiting, one at a time, on the reclaimer, the cheapest first
    /// (see [`on_pressure_as`](Pool::on_pressure_as); this one is [`Benign`](Urgency::Benign)), until no one waits any more. An episode begins
    /// when a reservation joins an empty queue, and ends when the queue is empty. What counts is whether someone still waits when the
    /// callback has returned; its answer is only added up in [`Stats::pressure_freed_bytes_total`](crate::Stats). A
    /// callback that panics, or takes longer than a tenth of a second, is counted and [reported](PoolBuilder::on_fault), and
    /// called again in the next episode.
    ///
    /// Where the reclaimer is a task whose runtime does not give it a turn, whoever is first in line runs the callbacks, when it is polled
    /// the next time; never a drop, and never `try_reserve`.
    ///
    /// It runs without any lock and may use the pool; but while it waits for memory itself, it is waiting for others. A slow one
    /// holds up what else the reclaimer does: later callbacks, ageing, [hooks](crate::DirectBytes::on_clean) unless someone who waits runs
    /// them. It does not hold up reservations and drops, which then clean for themselves. So what takes long is better handed to
    /// a task or a thread of its own.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = offheap::Pool::builder().limit(64 << 10).build()?;
    /// let spare = Arc::new(Mutex::new(vec![pool.reserve(64 << 10).await?]));
    /// let guard = pool.on_pressure({
    ///     let spare = spare.clone();
    ///     move |need| {
    ///         let given = std::mem::take(&mut *spare.lock().unwrap());
    ///         assert!(need.bytes > 0);
    ///         given.iter().map(|buffer| buffer.block_len()).sum()
    ///     }
    /// });
    /// let wanted = pool.reserve(64 << 10).await?; // waits, until the callback has let go of the spare one
    /// # drop((wanted, guard));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn on_pressure(
        &self,
        callback: impl FnMut(Need) -> usize + Send + 'static,
    ) -> PressureGuard {
        self.on_pressure_as(Urgency::Benign, callback)
    }

    /// [`on_pressure`](Pool::on_pressure) with an urgency: more urgent callbacks are called only if the others were not enough.
    #[track_caller]
    pub fn on_pressure_as(
        &self,
        urgency: Urgency,
        callback: impl FnMut(Need) -> usize + Send + 'static,
    ) -> PressureGuard {
        let callback = Callback::new(urgency, Location::caller(), Box::new(callback));
        let callback = Arc::new(callback);
        self.engine().add_callback(callback.clone());
        PressureGuard {
            pool: Arc::downgrade(&self.inner),
            callback,
        }
    }

    /// The addresses that the pool's blocks and their headers come from, for looking into `/proc/self/smaps`. Only what is
    /// committed, and the headers of blocks that were used, is resident there. Empty where blocks come from the heap.
    pub fn address_range(&self) -> Range<usize> {
        self.engine().addresses()
    }
}

/// Keeps a callback for pressure registered. From [`Pool::on_pressure`]. Does not keep the pool open.
#[must_use = "the callback is deregistered when this is dropped"]
pub struct PressureGuard {
    pool: Weak<Inner>,
    callback: Arc<Callback>,
}

impl Drop for PressureGuard {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.engine().remove_callback(&self.callback);
        }
    }
}

impl fmt::Debug for PressureGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PressureGuard")
            .field("callback", &self.callback)
            .finish_non_exhaustive()
    }
}

/// Whether buffers are wiped. See [`PoolBuilder::zero`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Zero {
    /// A buffer's spare capacity may hold what the last user left there; safe code can not read it.
    #[default]
    Never,
    /// No byte of one user reaches the next: blocks are wiped between their last drop and their next use.
    OnReclaim,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name())
            .field("limit", &self.engine().limit())
            .field("committed", &self.engine().committed())
            .field("waiting", &self.engine().waiting().0)
            .field("closed", &self.is_closed())
            .finish()
    }
}

/// Builds a [`Pool`]. From [`Pool::builder`].
#[derive(Clone)]
#[must_use = "a builder builds nothing until `build` is called"]
pub struct PoolBuilder {
    name: Arc<str>,
    limit: Option<usize>,
    max_limit: Option<usize>,
    page_aligned: bool,
    huge_pages: bool,
    shards: Option<usize>,
    membarrier: bool,
    zero: Zero,
    on_fault: Option<FaultHandler>,
    high_water: f64,
    floor: usize,
    decommit_after: Duration,
    #[cfg(feature = "metrics")]
    extras: observe::Extras,
    #[cfg(feature = "metrics")]
    publish_every: Option<Duration>,
    #[cfg(feature = "test-util")]
    faults: Option<crate::test_util::Faults>,
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("name", &self.name)
            .field("limit", &self.limit)
            .field("max_limit", &self.max_limit)
            .field("page_aligned", &self.page_aligned)
            .field("huge_pages", &self.huge_pages)
            .field("shards", &self.shards)
            .field("membarrier", &self.membarrier)
            .field("zero", &self.zero)
            .field("high_water", &self.high_water)
            .field("floor", &self.floor)
            .field("decommit_after", &self.decommit_after)
            .finish_non_exhaustive()
    }
}

impl Default for PoolBuilder {
    fn default() -> Self {
        PoolBuilder {
            name: "default".into(),
            limit: None,
            max_limit: None,
            page_aligned: false,
            huge_pages: false,
            shards: None,
            membarrier: true,
            zero: Zero::Never,
            on_fault: None,
            high_water: HIGH_WATER,
            floor: 0,
            decommit_after: IDLE,
            #[cfg(feature = "metrics")]
            extras: Default::default(),
            #[cfg(feature = "metrics")]
            publish_every: None,
            #[cfg(feature = "test-util")]
            faults: None,
        }
    }
}

impl PoolBuilder {
    /// The pool's name in errors and figures. Default: `"default"`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// The hard limit in bytes on memory that may be resident. Memory is resident in whole pages, so a limit counts in whole
    /// pages too. 0 is legal: such a pool serves empty buffers only. For text see [`parse_bytes`](crate::parse_bytes).
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = Some(bytes);
        self
    }

    /// How far [`Pool::set_limit`] may go, in bytes: address space is reserved for that much. Default: the limit.
    pub fn max_limit(mut self, bytes: usize) -> Self {
        self.max_limit = Some(bytes);
        self
    }

    /// Whether every buffer starts on a page and has whole pages, as `O_DIRECT` wants it. Default: no.
    pub fn page_aligned(mut self, yes: bool) -> Self {
        self.page_aligned = yes;
        self
    }

    /// Whether large buffers ask for huge pages (`MADV_HUGEPAGE`). Default: no, and then no buffer has any, not even where the system
    /// uses them *always*: one byte written to a huge page makes all of it resident, which a limit in small pages does not know.
    ///
    /// So they are for those size classes only whose blocks are whole huge pages: with huge pages of 2 MiB these are 2, 4 and 6 MiB, every
    /// class from 8 MiB on, and a limit that is a multiple of 2 MiB. Their blocks lie at multiples of 2 MiB and are charged, and given
    /// back to the OS, as a whole, so that the limit holds as it does without. All other buffers keep to small pages. Whether the kernel
    /// has huge pages at hand is its business; where it has none, or the machine knows none, small ones serve.
    ///
    /// They save page faults (one for 2 MiB, at the price of clearing 2 MiB at the first touch) and misses of the TLB.
    /// See also [`Pool::prefault`].
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = offheap::Pool::builder().limit(64 << 20).huge_pages(true).build()?;
    /// let frame = pool.try_reserve(4 << 20).unwrap();
    /// assert_eq!(frame.capacity(), 4 << 20);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn huge_pages(mut self, yes: bool) -> Self {
        self.huge_pages = yes;
        self
    }

    /// How many threads get magazines of their own, rounded up to a power of two. Default: the number of cores.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Whether the pool may use the system call `membarrier`, by which a thread need not pay for atomic operations on its own
    /// magazine. Default: yes, where Linux has it. To be switched off where a seccomp filter that is installed after the
    /// pool was built will forbid the call.
    pub fn membarrier(mut self, yes: bool) -> Self {
        self.membarrier = yes;
        self
    }

    /// Whether buffers are wiped between two users. Default: [`Zero::Never`]. Fresh memory is zero in any case.
    ///
    /// Wiping is done by the reclaimer, a slice at a time, or by the reservation that wants the memory, not by the drop; but then no drop
    /// goes by the shortest way, and each block is written once more.
    pub fn zero(mut self, zero: Zero) -> Self {
        self.zero = zero;
        self
    }

    /// What to do when something of the user's panics where it hurts nobody: a [hook](crate::DirectBytes::on_clean), the delivery of
    /// a token, a [callback for pressure](Pool::on_pressure); or when such a callback is slow. Default: it is only counted, see
    /// [`Stats`]. The handler is called where it happened, without a lock; if it panics itself, no one is told.
    pub fn on_fault(mut self, handler: impl Fn(&Fault) + Send + Sync + 'static) -> Self {
        self.on_fault = Some(Arc::new(handler));
        self
    }

    /// How long memory may be queued and unused before it goes back to the OS: at least this long, at most twice as long.
    /// Default: 10 s; less than 0.2 s counts as 0.2 s, more than a year as a year.
    pub fn decommit_after(mut self, idle: Duration) -> Self {
        self.decommit_after = idle;
        self
    }

    /// Lets the reclaimer [publish](Pool::publish_metrics) the pool's figures at this interval, at most every 10 ms. Default:
    /// never, and the reclaimer sleeps without a timer while nothing is queued.
    ///
    /// Where the recorder panics, the panic is caught and counted as `offheap_hook_panics_total`.
    #[cfg(feature = "metrics")]
    pub fn publish_every(mut self, interval: Duration) -> Self {
        self.publish_every = Some(interval);
        self
    }

    /// Whether figures are published by size class, too: the gauges `offheap_class_live_blocks` and
    /// `offheap_class_queued_blocks` with the block's size as the label `class`. There are four classes per doubling, and only
    /// those that were ever used are published. Default: no.
    #[cfg(feature = "metrics")]
    pub fn publish_classes(mut self, yes: bool) -> Self {
        self.extras.classes = yes;
        self
    }

    /// Whether to publish what the kernel says is [resident](Pool::resident), as the gauge `offheap_resident_bytes`, beside what
    /// the books say. Default: no, for it takes some milliseconds per GiB.
    #[cfg(feature = "metrics")]
    pub fn publish_resident(mut self, yes: bool) -> Self {
        self.extras.resident = yes;
        self
    }

    /// How many bytes stay committed however long they are queued and unused, so that the next burst finds some. Default: 0. What
    /// other sizes need is cleaned all the same, and [`Pool::trim`] leaves nothing.
    pub fn floor(mut self, bytes: usize) -> Self {
        self.floor = bytes;
        self
    }

    /// From which part of the limit on live memory is [`High`](crate::Pressure::High) pressure, from 0 to 1; it is calm again below half of
    /// that. Default: 0.8.
    pub fn high_water(mut self, part: f64) -> Self {
        self.high_water = part;
        self
    }

    /// Lets the pool fail where and when `faults` say so: see [`test_util`](crate::test_util). Default: it does not.
    #[cfg(feature = "test-util")]
    pub fn faults(mut self, faults: crate::test_util::Faults) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Reserves the address space and starts the reclaimer: a task of the tokio runtime that this is called in, or a thread
    /// where there is none. Takes no memory yet.
    ///
    /// In a runtime, its time driver must be enabled (`enable_time` or `enable_all`).
    ///
    /// # Errors
    ///
    /// `InvalidInput` where no limit was given, or where the settings contradict each other; otherwise what the operating
    /// system says when the address space can not be had: one range as large as `max_limit` for each of the size classes, of
    /// which there are four per doubling.
    pub fn build(self) -> io::Result<Pool> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("pool {:?}: {error}", self.name))
        };
        let limit = self
            .limit
            .ok_or_else(|| named(invalid("no limit was given; call `limit(bytes)`".into())))?;
        let max_limit = self.max_limit.unwrap_or(limit);
        if limit > max_limit {
            return Err(named(invalid(format!(
                "the limit of {limit} bytes is above max_limit, {max_limit} bytes"
            ))));
        }
        let shards = match self.shards {
            None => std::thread::available_parallelism().map_or(1, usize::from),
            Some(shards @ 1..=MAX_SHARDS) => shards,
            Some(shards) => {
                return Err(named(invalid(format!(
                    "{shards} shards are not possible; give 1 to {MAX_SHARDS}, or leave it to the number of cores"
                ))))
            }
        };
        #[cfg(not(feature = "test-util"))]
        let injector = Injector;
        #[cfg(feature = "test-util")]
        let injector = Injector::new(self.faults.clone());
        let engine = Engine::build(Config {
            limit: limit as u64,
            max_limit: max_limit as u64,
            page_aligned: self.page_aligned,
            huge_pages: self.huge_pages,
            shards,
            membarrier: self.membarrier,
            wipes: self.zero == Zero::OnReclaim,
            high_water: if self.high_water.is_nan() {
                HIGH_WATER
            } else {
                self.high_water.clamp(0.0, 1.0)
            },
            floor: (self.floor as u64).min(max_limit as u64),
            injector: injector.clone(),
        })
        .map_err(named)?;
        let label = Label {
            name: self.name,
            recent: Recent::default(),
            #[cfg(feature = "metrics")]
            publisher: observe::Publisher::new(self.extras),
        };
        let labelled = engine.label.set(Box::new(label));
        debug_assert!(labelled.is_ok());
        let inner = Arc::new(Inner { engine });
        #[cfg(feature = "test-util")]
        if let Some(faults) = &self.faults {
            faults.attach(&inner);
        }
        let habits = reclaim::Habits {
            idle: self.decommit_after.clamp(LEAST_IDLE, MOST_IDLE),
            injector,
            #[cfg(feature = "metrics")]
            publish: self
                .publish_every
                .map(|every| every.clamp(LEAST_PUBLISH, MOST_IDLE)),
        };
        reclaim::start(&inner, habits, self.on_fault);
        Ok(Pool { inner })
    }
}

const MAX_SHARDS: usize = 1024;

pin_project! {
    /// Waits until a closed pool has all its buffers back. From [`Pool::closed`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct Closed<'a> {
        pool: &'a Pool,
        // Others reach it while it waits: it must not move.
        #[pin]
        node: Node<()>,
    }

    impl PinnedDrop for Closed<'_> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.into_ref().project_ref();
            if this.node.status() == Status::Waiting {
                this.pool.engine().forget_closer(&this.node);
            }
        }
    }
}

impl Closed<'_> {
    /// Who still holds what: see [`Pool::holders`].
    pub fn holders(&self) -> Vec<Holder> {
        self.pool.holders()
    }
}

impl Future for Closed<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.into_ref().project_ref();
        let engine = this.pool.engine();
        match this.node.status() {
            Status::Idle => {
                this.pool.close();
                // SAFETY: the node is idle; pinned from here on, it leaves by `forget_closer` when it is dropped.
                if unsafe { engine.await_closed(&this.node, cx.waker().clone()) } {
                    return Poll::Ready(());
                }
            }
            Status::Waiting => engine.renew_closer(&this.node, cx.waker().clone()),
            Status::Done => {}
        }
        // The reclaimer may be starved.
        while this.node.status() == Status::Waiting && engine.clean_one() {}
        match this.node.status() {
            Status::Waiting => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}
