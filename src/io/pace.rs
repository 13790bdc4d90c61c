//! How large the next buffer is: small for those who chat, large for bulk.
//!
//! A read that fills its buffer asks for a larger one next time, and a few reads in a row that use a fraction ask for a
//! smaller one. No one takes more than a small share of the pool's limit, so that a small pool still serves many.

use crate::Pool;

/// What a connection begins with, and what it comes back to.
const LEAST: usize = 4 << 10;
/// What is read into one buffer at most: handles to parts of it keep the whole of it.
const MOST: usize = 256 << 10;
/// What a relay moves by one read at most. Half of it costs a tenth more time, twice as much is no faster.
const MOST_RELAYED: usize = 1 << 20;
/// After having had to wait, at most this much: many small ones are served sooner than one large one.
const CONTENDED: usize = 16 << 10;
/// The share of the limit that one buffer may take.
const SHARE: usize = 16;
/// So many reads in a row that use less than a quarter halve the size.
const SHORT_READS: u8 = 4;

#[derive(Debug, Clone)]
pub(super) struct Pace {
    size: usize,
    /// It does not become larger than this.
    most: usize,
    /// Never another size than this.
    fixed: bool,
    short_reads: u8,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Pace {
            size: LEAST,
            most: MOST,
            fixed: false,
            short_reads: 0,
        }
    }

    /// For buffers that are not kept beyond the next write.
    pub(super) const fn relayed() -> Self {
        Pace {
            most: MOST_RELAYED,
            ..Pace::new()
        }
    }

    /// Buffers of one size, whatever the traffic.
    pub(super) const fn fixed(size: usize) -> Self {
        Pace {
            size,
            most: size,
            fixed: true,
            short_reads: 0,
        }
    }

    /// What to reserve next, in bytes.
    pub(super) fn size(&self, pool: &Pool) -> usize {
        if self.fixed {
            return self.size;
        }
        let limit = pool.limit();
        let share = (limit / SHARE).max(LEAST);
        let size = self.size.min(share);
        if limit < 2 * LEAST {
            // At least a byte: a pool without memory has to say so.
            size.min(pool.max_reserve().max(1))
        } else {
            size
        }
    }

    /// A read brought `n` bytes where `most` had room.
    pub(super) fn read(&mut self, n: usize, most: usize) {
        if self.fixed {
            return;
        }
        if n >= most {
            self.short_reads = 0;
            self.size = (self.size * 4).min(self.most);
        } else if n < most / 4 {
            self.short_reads += 1;
            if self.short_reads == SHORT_READS {
                self.short_reads = 0;
                self.size = (self.size / 2).max(LEAST);
            }
        } else {
            self.short_reads = 0;
        }
    }

    /// A reservation had to wait.
    pub(super) fn waited(&mut self) {
        if !self.fixed && self.size > CONTENDED {
            self.size = (self.size / 2).max(CONTENDED);
        }
    }
}
