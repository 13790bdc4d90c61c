//! Figures of a pool by size class.

use super::census::Census;
use crate::arena::Class;
use crate::engine::Engine;

/// The blocks of one size. From [`Pool::classes`](crate::Pool::classes).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassStats {
    /// Bytes of a block.
    pub size: u64,
    /// Blocks in users' hands.
    pub live: u64,
    /// Blocks that wait for the next reservation.
    pub queued: u64,
    /// Blocks without memory behind them: it was given back to the OS.
    pub clean: u64,
    /// Queued blocks that only this class can use, because others of their span are live.
    pub stranded: u64,
    /// Bytes that users asked for when they reserved the live blocks.
    pub requested: u64,
}

impl ClassStats {
    fn of(class: &Class) -> ClassStats {
        let census = Census::of(class);
        let queued = class.queued() / class.size() as u64;
        // Blocks may move meanwhile; there are never more of them than there are.
        let queued = queued.min(census.blocks - census.live);
        ClassStats {
            size: class.size() as u64,
            live: census.live,
            queued,
            clean: census.blocks - census.live - queued,
            stranded: census.stranded.min(queued),
            requested: census.requested,
        }
    }
}

/// The classes that were ever used, smallest first.
pub(crate) fn classes(engine: &Engine) -> Vec<ClassStats> {
    let mut classes: Vec<_> = engine.arena().touched().map(ClassStats::of).collect();
    classes.sort_by_key(|class| class.size);
    classes
}
