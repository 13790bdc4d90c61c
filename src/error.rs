//! Errors that answer "why": what was asked, what there was, who holds it, and what to do about it.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::engine::{Engine, Refused};
use crate::observe::Holder;
use crate::pool::Label;
use crate::units::Bytes;

/// What a pool looked like when it refused a reservation.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Refusal {
    /// The pool's name.
    pub pool: Arc<str>,
    /// Bytes that were asked for.
    pub requested: u64,
    /// The pool's limit in bytes.
    pub limit: u64,
    /// The largest reservation that the limit allows, in bytes.
    pub max_reserve: u64,
    /// Bytes of blocks in users' hands.
    pub live: u64,
    /// Bytes of blocks that wait for reuse.
    pub queued: u64,
    /// Parked reservations.
    pub waiting: u64,
    /// The largest holders, at most three; in large pools up to 100 ms old.
    pub holders: Vec<Holder>,
}

impl Refusal {
    /// `beside`: pages that whoever asked keeps in use until it is served.
    pub(crate) fn new(engine: &Engine, requested: u64, beside: u32) -> Box<Refusal> {
        let label = Label::of(engine);
        let live = engine.live_estimate();
        Box::new(Refusal {
            pool: label.name().clone(),
            requested,
            limit: engine.limit(),
            max_reserve: engine.max_beside(beside) as u64,
            live,
            queued: engine.committed().saturating_sub(live),
            waiting: engine.waiting().0,
            holders: label.largest_holders(engine),
        })
    }

    /// Of a buffer that never had memory.
    pub(crate) fn without_pool(requested: u64) -> Box<Refusal> {
        Box::new(Refusal {
            pool: "".into(),
            requested,
            limit: 0,
            max_reserve: 0,
            live: 0,
            queued: 0,
            waiting: 0,
            holders: Vec::new(),
        })
    }

    fn no_pool(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a buffer without memory belongs to no pool and can not grow by {}; reserve from a pool instead",
            Bytes(self.requested)
        )
    }

    fn begin(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requested = Bytes(self.requested);
        write!(f, "pool {:?} can not reserve {requested}: ", self.pool)
    }

    fn state(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "limit {}, live {}, queued {}, waiting {}",
            Bytes(self.limit),
            Bytes(self.live),
            Bytes(self.queued),
            self.waiting
        )?;
        for (index, holder) in self.holders.iter().enumerate() {
            let lead = if index == 0 { "; held by " } else { "; by " };
            write!(f, "{lead}{holder}")?;
        }
        Ok(())
    }

    fn too_large(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.begin(f)?;
        write!(
            f,
            "the largest reservation under its limit is {}; ask for less at a time, or raise the limit; ",
            Bytes(self.max_reserve)
        )?;
        self.state(f)
    }

    fn closed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.begin(f)?;
        write!(f, "it is closed; ")?;
        self.state(f)
    }

    fn os(&self, f: &mut fmt::Formatter<'_>, source: &io::Error) -> fmt::Result {
        self.begin(f)?;
        write!(
            f,
            "the operating system refused the memory though the limit allows it ({source}); lower the limit to what the \
             machine can give, or look at its overcommit settings; "
        )?;
        self.state(f)
    }
}

/// Why [`reserve`](crate::Pool::reserve) failed. It never fails for want of memory below the limit: it waits.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReserveError {
    /// The limit, as it is, can never serve this many bytes.
    #[non_exhaustive]
    TooLarge {
        /// The pool at that moment.
        refusal: Box<Refusal>,
    },
    /// The pool is closed.
    #[non_exhaustive]
    Closed {
        /// The pool at that moment.
        refusal: Box<Refusal>,
    },
    /// The operating system refused memory that the limit allows. Nothing was charged.
    #[non_exhaustive]
    Os {
        /// The pool at that moment.
        refusal: Box<Refusal>,
        /// What the operating system said.
        source: io::Error,
    },
    /// A buffer without memory can not [`grow`](crate::DirectBytesMut::grow): it belongs to no pool.
    #[non_exhaustive]
    NoPool {
        /// What was asked for; there is no pool to tell of.
        refusal: Box<Refusal>,
    },
}

/// Why [`try_reserve`](crate::Pool::try_reserve) failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum TryReserveError {
    /// The limit, as it is, can never serve this many bytes.
    #[non_exhaustive]
    TooLarge {
        /// The pool at that moment.
        refusal: Box<Refusal>,
    },
    /// The pool is closed.
    #[non_exhaustive]
    Closed {
        /// The pool at that moment.
        refusal: Box<Refusal>,
    },
    /// There is no memory now, or others wait for it: [`reserve`](crate::Pool::reserve) would wait.
    #[non_exhaustive]
    Exhausted {
        /// The pool at that moment.
        refusal: Box<Refusal>,
    },
    /// The operating system refused memory that the limit allows. Nothing was charged.
    #[non_exhaustive]
    Os {
        /// The pool at that moment.
        refusal: Box<Refusal>,
        /// What the operating system said.
        source: io::Error,
    },
    /// A buffer without memory can not [`grow`](crate::DirectBytesMut::try_grow): it belongs to no pool.
    #[non_exhaustive]
    NoPool {
        /// What was asked for; there is no pool to tell of.
        refusal: Box<Refusal>,
    },
}

impl ReserveError {
    #[cold]
    pub(crate) fn new(engine: &Engine, requested: u64, beside: u32, why: Refused) -> Self {
        engine.counters.tallies.reject(&why);
        let refusal = Refusal::new(engine, requested, beside);
        match why {
            Refused::TooLarge => ReserveError::TooLarge { refusal },
            // A waiting reservation is never told that the pool is full.
            Refused::Closed | Refused::Full => ReserveError::Closed { refusal },
            Refused::Os(source) => ReserveError::Os { refusal, source },
        }
    }

    /// What the pool looked like.
    pub fn refusal(&self) -> &Refusal {
        match self {
            ReserveError::TooLarge { refusal }
            | ReserveError::Closed { refusal }
            | ReserveError::NoPool { refusal }
            | ReserveError::Os { refusal, .. } => refusal,
        }
    }
}

impl TryReserveError {
    #[cold]
    pub(crate) fn new(engine: &Engine, requested: u64, beside: u32, why: Refused) -> Self {
        engine.counters.tallies.reject(&why);
        let refusal = Refusal::new(engine, requested, beside);
        match why {
            Refused::TooLarge => TryReserveError::TooLarge { refusal },
            Refused::Closed => TryReserveError::Closed { refusal },
            Refused::Full => TryReserveError::Exhausted { refusal },
            Refused::Os(source) => TryReserveError::Os { refusal, source },
        }
    }

    /// What the pool looked like.
    pub fn refusal(&self) -> &Refusal {
        match self {
            TryReserveError::TooLarge { refusal }
            | TryReserveError::Closed { refusal }
            | TryReserveError::Exhausted { refusal }
            | TryReserveError::NoPool { refusal }
            | TryReserveError::Os { refusal, .. } => refusal,
        }
    }
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReserveError::TooLarge { refusal } => refusal.too_large(f),
            ReserveError::Closed { refusal } => refusal.closed(f),
            ReserveError::Os { refusal, source } => refusal.os(f, source),
            ReserveError::NoPool { refusal } => refusal.no_pool(f),
        }
    }
}

impl fmt::Display for TryReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryReserveError::TooLarge { refusal } => refusal.too_large(f),
            TryReserveError::Closed { refusal } => refusal.closed(f),
            TryReserveError::Exhausted { refusal } => {
                refusal.begin(f)?;
                let why = if refusal.waiting > 0 {
                    "others wait for memory already"
                } else {
                    "too little of its limit is left"
                };
                write!(f, "{why}; wait with `reserve`, or raise the limit; ")?;
                refusal.state(f)
            }
            TryReserveError::Os { refusal, source } => refusal.os(f, source),
            TryReserveError::NoPool { refusal } => refusal.no_pool(f),
        }
    }
}

impl std::error::Error for ReserveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReserveError::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl std::error::Error for TryReserveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TryReserveError::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// I/O code can use `?` on a reservation: out of memory for now and too large are `OutOfMemory`, closed is `NotConnected`.
macro_rules! into_io_error {
    ($error:ident) => {
        impl From<$error> for io::Error {
            fn from(error: $error) -> io::Error {
                let kind = match &error {
                    $error::Closed { .. } => io::ErrorKind::NotConnected,
                    $error::Os { source, .. } => source.kind(),
                    $error::NoPool { .. } => io::ErrorKind::InvalidInput,
                    _ => io::ErrorKind::OutOfMemory,
                };
                io::Error::new(kind, error)
            }
        }
    };
}

into_io_error!(ReserveError);
into_io_error!(TryReserveError);

/// A limit that [`set_limit`](crate::Pool::set_limit) can not set: the address space was reserved for less.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitError {
    /// The limit that was asked for, in bytes.
    pub requested: u64,
    /// The highest limit that is possible, in bytes.
    pub max_limit: u64,
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the limit can not be set to {}: the pool was built for at most {}; build it with a larger `max_limit`",
            Bytes(self.requested),
            Bytes(self.max_limit)
        )
    }
}

impl std::error::Error for LimitError {}
