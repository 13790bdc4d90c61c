//! The depot: a class's shared stack of chains (Bonwick's term), so that batches move for the price of one block.
//!
//! It is one [`Word`], like a magazine, whose elements are chains: the link hangs on each chain's top block. While the
//! depot is open anyone pushes and pops. While it is shut only holders of the waiters' lock may; and only they take
//! everything at once, to clean it.

use super::header::NIL;
use super::magazine::{Seen, Word};
use super::{Chain, Headers};
use crate::sync::{AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct Depot {
    word: Word,
    /// Queued blocks; raised before a push and lowered after a pop, so it never wraps.
    len: AtomicU64,
}

/// Who is at the depot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anyone; sent away while the depot is shut.
    Calm,
    /// A holder of the waiters' lock.
    Locked,
}

impl Depot {
    pub(super) fn new() -> Self {
        Depot {
            word: Word::new(),
            len: AtomicU64::new(0),
        }
    }

    fn may(seen: Seen, access: Access) -> bool {
        access == Access::Locked || seen.is_open()
    }

    /// Adds a chain on top. Gives it back where the depot is shut.
    pub(super) fn push(
        &self,
        headers: Headers<'_>,
        chain: Chain,
        stamp: u32,
        access: Access,
    ) -> Result<(), Chain> {
        let top = headers.header(chain.top());
        let count = u64::from(chain.len(headers));
        top.set_stamp(stamp);
        let mut seen = self.word.load();
        if !Self::may(seen, access) {
            return Err(chain);
        }
        self.len.fetch_add(count, Ordering::Relaxed);
        loop {
            if !Self::may(seen, access) {
                self.len.fetch_sub(count, Ordering::Relaxed);
                return Err(chain);
            }
            top.chain.store(seen.top(), Ordering::Relaxed);
            match self.word.replace(seen, chain.top()) {
                Ok(()) => return Ok(()),
                Err(now) => seen = now,
            }
        }
    }

    /// Takes the newest chain.
    pub(super) fn pop(&self, headers: Headers<'_>, access: Access) -> Option<Chain> {
        let mut seen = self.word.load();
        while seen.top() != NIL && Self::may(seen, access) {
            let below = headers.header(seen.top()).chain.load(Ordering::Relaxed);
            match self.word.replace(seen, below) {
                Ok(()) => {
                    let chain = headers.chain(seen.top());
                    self.len
                        .fetch_sub(u64::from(chain.len(headers)), Ordering::Relaxed);
                    return Some(chain);
                }
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Takes the newest chain, and its stamp. Under the waiters' lock.
    pub(super) fn pop_locked(&self, headers: Headers<'_>) -> Option<(Chain, u32)> {
        let chain = self.pop(headers, Access::Locked)?;
        let stamp = headers.header(chain.top()).stamp();
        Some((chain, stamp))
    }

    /// Adds chains on top, in their order. Under the waiters' lock.
    pub(super) fn put_all(&self, chains: Chains<'_>) {
        let Some(last) = chains.last() else {
            return;
        };
        self.len.fetch_add(chains.blocks(), Ordering::Relaxed);
        let last = chains.headers.header(last);
        let mut seen = self.word.load();
        loop {
            last.chain.store(seen.top(), Ordering::Relaxed);
            match self.word.replace(seen, chains.top) {
                Ok(()) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Takes all chains, newest first. Under the waiters' lock.
    pub(super) fn take_all<'a>(&self, headers: Headers<'a>) -> Chains<'a> {
        let top = self.word.take(None);
        let chains = Chains { headers, top };
        self.len.fetch_sub(chains.blocks(), Ordering::Relaxed);
        chains
    }

    /// The newest chain's stamp.
    pub(super) fn top_stamp(&self, headers: Headers<'_>) -> Option<u32> {
        let top = self.word.load().top();
        (top != NIL).then(|| headers.header(top).stamp())
    }

    /// Sends everyone but holders of the waiters' lock away; what is queued stays. Under that lock.
    pub(super) fn shut(&self) {
        self.word.set_open(false);
    }

    pub(super) fn open(&self) {
        self.word.set_open(true);
    }

    pub(super) fn is_open(&self) -> bool {
        self.word.load().is_open()
    }

    /// How many blocks are queued here.
    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }
}

/// A private list of chains.
#[derive(Debug)]
#[must_use]
pub(super) struct Chains<'a> {
    headers: Headers<'a>,
    top: u32,
}

impl<'a> Chains<'a> {
    pub(super) fn none(headers: Headers<'a>) -> Self {
        Chains { headers, top: NIL }
    }

    pub(super) fn push(&mut self, chain: Chain, stamp: u32) {
        let header = self.headers.header(chain.top());
        header.set_stamp(stamp);
        header.chain.store(self.top, Ordering::Relaxed);
        self.top = chain.into_top();
    }

    /// Takes the chain that is first in line, and its stamp.
    pub(super) fn pop(&mut self) -> Option<(Chain, u32)> {
        if self.top == NIL {
            return None;
        }
        let header = self.headers.header(self.top);
        let chain = self.headers.chain(self.top);
        self.top = header.chain.load(Ordering::Relaxed);
        Some((chain, header.stamp()))
    }

    /// Keeps the chains up to the first whose stamp is `old`, and answers the others.
    pub(super) fn split_off(&mut self, old: impl Fn(u32) -> bool) -> Chains<'a> {
        let mut above = None;
        let mut link = self.top;
        while link != NIL {
            let header = self.headers.header(link);
            if old(header.stamp()) {
                break;
            }
            above = Some(header);
            link = header.chain.load(Ordering::Relaxed);
        }
        match above {
            Some(above) => above.chain.store(NIL, Ordering::Relaxed),
            None => self.top = NIL,
        }
        Chains {
            headers: self.headers,
            top: link,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.top == NIL
    }

    fn last(&self) -> Option<u32> {
        let mut last = None;
        let mut link = self.top;
        while link != NIL {
            last = Some(link);
            link = self.headers.header(link).chain.load(Ordering::Relaxed);
        }
        last
    }

    /// How many blocks there are.
    pub(super) fn blocks(&self) -> u64 {
        let mut count = 0;
        let mut link = self.top;
        while link != NIL {
            count += u64::from(self.headers.depth(link));
            link = self.headers.header(link).chain.load(Ordering::Relaxed);
        }
        count
    }
}
