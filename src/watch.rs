//! Watching a pool's pressure from outside.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::engine::{Engine, HasEngine};
use crate::pool::Pool;
use crate::reclaim::Pressure;

/// Watches how hard it is to get memory. From [`Pool::pressure`]. Keeps the pool open.
///
/// # Examples
///
/// ```
/// use offheap::Pressure;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let mut pressure = pool.pressure();
/// assert_eq!(pressure.level(), Pressure::Calm);
/// let most = pool.reserve(1_000_000).await?;
/// assert_eq!(pressure.changed().await, Pressure::High);
/// drop(most);
/// assert_eq!(pressure.changed().await, Pressure::Calm);
/// # Ok(())
/// # }
/// ```
pub struct PressureWatch {
    pool: Pool,
    id: u64,
    /// What the last `changed` has answered, or the level at first.
    seen: Pressure,
}

impl Pool {
    /// How hard it is to get memory, now and when it changes.
    pub fn pressure(&self) -> PressureWatch {
        let id = self.engine().gauge().watch();
        let seen = self.engine().read_pressure();
        if self.engine().is_sampled() {
            self.engine().bell().ring();
        }
        PressureWatch {
            pool: self.clone(),
            id,
            seen,
        }
    }
}

impl PressureWatch {
    fn engine(&self) -> &Engine {
        HasEngine::engine(&self.pool)
    }

    /// The level at this moment.
    pub fn level(&self) -> Pressure {
        self.engine().read_pressure()
    }

    /// From 0 to 1: how much of the limit is live (all of it where someone waits), as a mean over the last second or so. For admission
    /// control: it does not jump.
    pub fn value(&self) -> f64 {
        self.engine().read_pressure();
        self.engine().gauge().smooth()
    }

    /// Waits until the level is another than this last answered, at first: than it was when the watch was made. Levels that come and
    /// go meanwhile are not told. That someone parks is told at once; that live memory passes a mark, within a tenth of a second where no
    /// memory had to be charged for it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub fn changed(&mut self) -> impl Future<Output = Pressure> + Send + '_ {
        Changed { watch: self }
    }
}

struct Changed<'a> {
    watch: &'a mut PressureWatch,
}

impl Future for Changed<'_> {
    type Output = Pressure;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Pressure> {
        let watch = &mut *self.watch;
        let gauge = watch.pool.engine().gauge();
        let waker = cx.waker().clone();
        match gauge.wait(watch.id, watch.seen, waker) {
            Some(level) => {
                watch.seen = level;
                Poll::Ready(level)
            }
            None => Poll::Pending,
        }
    }
}

impl PartialEq<Pressure> for PressureWatch {
    fn eq(&self, level: &Pressure) -> bool {
        self.level() == *level
    }
}

impl Drop for PressureWatch {
    fn drop(&mut self) {
        self.engine().gauge().forget(self.id);
    }
}

impl fmt::Debug for PressureWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PressureWatch")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}
