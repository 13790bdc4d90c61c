//! One look at the headers of a class's blocks: the place where figures come from.
//!
//! It stops nobody and takes no lock. Each header is looked at once, in order, one load for whether and how often; so what is
//! counted of a block is consistent in itself, and the whole is as of a moment where nothing moves meanwhile.

use crate::arena::Class;

/// What the headers of a class say, in blocks unless a field says otherwise.
#[derive(Debug, Default)]
pub(super) struct Census {
    /// Ever used.
    pub(super) blocks: u64,
    pub(super) live: u64,
    /// Not live, in a span with others that are.
    pub(super) stranded: u64,
    /// How often blocks were reclaimed so far.
    pub(super) reclaimed: u64,
    /// Bytes that were asked for.
    pub(super) requested: u64,
}

impl Census {
    /// O(blocks).
    pub(super) fn of(class: &Class) -> Census {
        let size = class.size() as u64;
        let per_span = class.per_span() as usize;
        // Before the generations that it is taken from.
        let invalidated = class.invalidations();
        let mut census = Census {
            reclaimed: u64::from(class.eras()) << 44,
            ..Census::default()
        };
        let mut blocks = class.blocks();
        census.blocks = blocks.len() as u64;
        while blocks.len() > 0 {
            // One block at a time or a whole class, where there is nothing to strand.
            let span = if per_span == 1 { usize::MAX } else { per_span };
            let mut seen = 0;
            let mut live = 0;
            for block in blocks.by_ref().take(span) {
                let (generation, requested) = block.glance();
                seen += 1;
                live += u64::from(requested.is_some());
                census.reclaimed += generation;
                census.requested += requested.unwrap_or(0).min(size);
            }
            census.live += live;
            if per_span > 1 && live > 0 {
                census.stranded += seen - live;
            }
        }
        census.reclaimed -= invalidated.min(census.reclaimed);
        census
    }
}
