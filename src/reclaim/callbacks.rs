//! Callbacks for pressure: what others can do without when someone waits for memory.

use std::fmt;
use std::panic::Location;

use crate::sync::{lock, Mutex};

/// What those who wait for memory are short of: the argument of a callback for pressure, see
/// [`Pool::on_pressure`](crate::Pool::on_pressure).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Need {
    /// Bytes that are missing for all who wait.
    pub bytes: usize,
    /// The largest single buffer that the first in line waits for, in bytes: smaller ones help only together.
    pub contiguous: usize,
}

/// How dear it is to do without: callbacks for pressure are called in this order. See
/// [`Pool::on_pressure_as`](crate::Pool::on_pressure_as).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Urgency {
    /// Costs nothing worth mentioning: something that can be had again at once.
    #[default]
    Benign,
    /// Gives up what is idle now but may be wanted again, such as a connection that is kept open.
    Idle,
    /// Breaks off work that is under way.
    Destructive,
}

/// What a user registers.
pub(crate) type Run = Box<dyn FnMut(Need) -> usize + Send>;

pub(crate) struct Callback {
    pub(crate) urgency: Urgency,
    pub(crate) site: &'static Location<'static>,
    /// None while it runs.
    run: Mutex<Option<Run>>,
}

impl Callback {
    pub(crate) fn new(urgency: Urgency, site: &'static Location<'static>, run: Run) -> Self {
        Callback {
            urgency,
            site,
            run: Mutex::new(Some(run)),
        }
    }

    pub(crate) fn take(&self) -> Option<Run> {
        lock(&self.run).take()
    }

    pub(crate) fn put_back(&self, run: Run) {
        *lock(&self.run) = Some(run);
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback")
            .field("urgency", &self.urgency)
            .field("site", &self.site)
            .finish_non_exhaustive()
    }
}
