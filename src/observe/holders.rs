//! Who holds the memory: live blocks by the line of code that reserved them.

use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::units::Bytes;

/// The live blocks that one place in the code reserved. From [`Pool::holders`](crate::Pool::holders).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The call that reserved them.
    pub location: &'static Location<'static>,
    /// How many blocks; not handles: all clones and slices of a buffer are one block.
    pub count: u64,
    /// Bytes of those blocks, at their class's size.
    pub bytes: u64,
    /// Age of the oldest. The pool's clock ticks in tenths of a second, and only when a reservation leaves the fast path or the
    /// reclaimer has a turn: an age can be too high by the time between two of these.
    pub oldest: Duration,
    /// Bytes of those blocks, of a page or more, that nobody holds but by small slices: parts of at most an eighth of the
    /// block. What a few bytes keep from being used again; [`detach`](crate::DirectBytes::detach) frees it.
    ///
    /// A buffer counts by its length when it was frozen, sliced, split or truncated; [`advance`](crate::DirectBytes::advance) does not
    /// make it small. A `Bytes` counts as the buffer that it was made from. A block with a thousand small slices counts as well held.
    pub pinned_waste: u64,
}

impl Holder {
    fn merge(&mut self, other: Holder) {
        self.count += other.count;
        self.bytes += other.bytes;
        self.oldest = self.oldest.max(other.oldest);
        self.pinned_waste += other.pinned_waste;
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks = if self.count == 1 { "buffer" } else { "buffers" };
        write!(
            f,
            "{}: {} {blocks}, {}, oldest {:.1?}",
            self.location,
            self.count,
            Bytes(self.bytes),
            self.oldest
        )?;
        if self.pinned_waste > 0 {
            write!(
                f,
                ", {} held by small slices only",
                Bytes(self.pinned_waste)
            )?;
        }
        Ok(())
    }
}

/// All holders, largest first. O(blocks).
pub(crate) fn holders(engine: &Engine) -> Vec<Holder> {
    engine.touch_clock();
    let mut by_location: HashMap<*const Location<'static>, Holder> = HashMap::new();
    for class in engine.arena().touched() {
        for lease in class.blocks().filter_map(|block| block.lease()) {
            let bytes = class.size() as u64;
            let block = Holder {
                location: lease.location,
                count: 1,
                bytes,
                oldest: engine.since(lease.birth),
                pinned_waste: if lease.only_small { bytes } else { 0 },
            };
            by_location
                .entry(std::ptr::from_ref(lease.location))
                .and_modify(|sum| sum.merge(block))
                .or_insert(block);
        }
    }
    // One place in the code can have several `Location`s, one for each time that it was compiled.
    let mut merged: HashMap<&Location<'static>, Holder> = HashMap::new();
    for holder in by_location.into_values() {
        merged
            .entry(holder.location)
            .and_modify(|sum| sum.merge(holder))
            .or_insert(holder);
    }
    let mut holders: Vec<_> = merged.into_values().collect();
    holders.sort_by(|a, b| {
        b.bytes.cmp(&a.bytes).then_with(|| {
            (a.location.file(), a.location.line()).cmp(&(b.location.file(), b.location.line()))
        })
    });
    holders
}

/// The largest holders for error texts. Looking for them is O(blocks), and a caller may fail in a loop: a large pool is
/// looked at ten times a second at most.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Option<(Instant, Vec<Holder>)>>);

impl Recent {
    const MAX_AGE: Duration = Duration::from_millis(100);
    const SMALL: usize = 64;
    const SHOWN: usize = 3;

    pub(crate) fn largest(&self, engine: &Engine) -> Vec<Holder> {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let blocks: usize = engine
            .arena()
            .touched()
            .map(|class| class.blocks().len())
            .sum();
        match &*recent {
            Some((when, largest)) if blocks > Self::SMALL && when.elapsed() < Self::MAX_AGE => {
                largest.clone()
            }
            _ => {
                let mut largest = holders(engine);
                largest.truncate(Self::SHOWN);
                *recent = Some((Instant::now(), largest.clone()));
                largest
            }
        }
    }
}
