//! What the users of a modelled pool hold: handles to blocks with known contents, weak ones, and a soft cache.

use std::collections::BTreeMap;

use bytes::BufMut;
use offheap::{DirectBytes, DirectBytesMut, Pool, SoftCache, WeakBytes};
use proptest::sample::Index;

/// What can be done with a handle.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    /// Fills a part of the spare capacity.
    Write,
    /// One handle becomes two, each with a part of what may be written.
    Split,
    Freeze,
    Clone,
    Slice,
    /// A shared handle that may be the last becomes unique.
    Thaw,
    Downgrade,
    /// A shared handle goes into the soft cache, under one of a few keys.
    Cache,
}

impl What {
    pub(crate) const ALL: [What; 8] = [
        What::Write,
        What::Split,
        What::Freeze,
        What::Clone,
        What::Slice,
        What::Thaw,
        What::Downgrade,
        What::Cache,
    ];
}

#[derive(Debug)]
enum Handle {
    Unique(DirectBytesMut),
    Shared(DirectBytes),
}

/// A handle, and the bytes that it has to show.
#[derive(Debug)]
struct Held {
    handle: Handle,
    bytes: Vec<u8>,
}

impl Held {
    fn check(&self) {
        let found: &[u8] = match &self.handle {
            Handle::Unique(buffer) => buffer,
            Handle::Shared(buffer) => buffer,
        };
        assert!(found == self.bytes, "a handle shows other bytes");
    }
}

#[derive(Debug)]
struct Block {
    id: u64,
    len: usize,
    requested: usize,
    held: Vec<Held>,
    /// How many entries of the cache keep it.
    cached: usize,
    /// Weak handles from before are void, though the block was not reclaimed.
    era: u64,
}

#[derive(Debug)]
struct Weak {
    weak: WeakBytes,
    bytes: Vec<u8>,
    block: u64,
    era: u64,
}

#[derive(Debug)]
struct Entry {
    block: u64,
    bytes: Vec<u8>,
    used: u64,
}

const KEYS: u32 = 6;

#[derive(Debug)]
pub(crate) struct Holdings {
    blocks: Vec<Block>,
    weak: Vec<Weak>,
    cache: SoftCache<u32>,
    entries: BTreeMap<u32, Entry>,
    /// Grows with each use of an entry, each block and each write.
    count: u64,
    evicted: u64,
    hits: u64,
    misses: u64,
}

impl Holdings {
    pub(crate) fn new(pool: &Pool) -> Self {
        Holdings {
            blocks: Vec::new(),
            weak: Vec::new(),
            cache: SoftCache::new(pool),
            entries: BTreeMap::new(),
            count: 0,
            evicted: 0,
            hits: 0,
            misses: 0,
        }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    pub(crate) fn live(&self) -> u64 {
        self.blocks.iter().map(|block| block.len as u64).sum()
    }

    pub(crate) fn requested(&self) -> u64 {
        self.blocks.iter().map(|block| block.requested as u64).sum()
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// A granted buffer, with nothing in it or with as many zeros as were asked for.
    pub(crate) fn add(&mut self, requested: usize, buffer: DirectBytesMut) {
        let held = Held {
            bytes: vec![0; buffer.len()],
            handle: Handle::Unique(buffer),
        };
        held.check();
        let Handle::Unique(buffer) = &held.handle else {
            return;
        };
        let (id, len) = (self.next(), buffer.block_len());
        self.blocks.push(Block {
            id,
            len,
            requested,
            held: vec![held],
            cached: 0,
            era: 0,
        });
    }

    /// The place of one of the handles.
    fn pick(&self, index: &Index) -> Option<(usize, usize)> {
        let count = self.blocks.iter().map(|block| block.held.len()).sum();
        if count == 0 {
            return None;
        }
        let mut nth = index.index(count);
        for (at, block) in self.blocks.iter().enumerate() {
            if nth < block.held.len() {
                return Some((at, nth));
            }
            nth -= block.held.len();
        }
        None
    }

    fn forget_if_gone(&mut self, at: usize) {
        let block = &self.blocks[at];
        if block.held.is_empty() && block.cached == 0 {
            self.blocks.swap_remove(at);
        }
    }

    pub(crate) fn drop_one(&mut self, index: &Index) {
        if let Some((at, nth)) = self.pick(index) {
            self.blocks[at].held.swap_remove(nth);
            self.forget_if_gone(at);
        }
    }

    /// Drops a block's handles, or takes it out of the cache; `false` where there is none.
    pub(crate) fn drop_block(&mut self) -> bool {
        if let Some(key) = self.entries.keys().next().copied() {
            self.cache_remove(key);
            return true;
        }
        self.blocks.pop().is_some()
    }

    /// Does something with a handle. `n` chooses a place, an amount or a key.
    pub(crate) fn handle(&mut self, index: &Index, what: What, n: &Index) {
        let Some((at, nth)) = self.pick(index) else {
            return;
        };
        let stamp = self.next();
        let block = &mut self.blocks[at];
        let Held { handle, mut bytes } = block.held.swap_remove(nth);
        let handle = match (handle, what) {
            (Handle::Unique(mut buffer), What::Write) => {
                // From time to time all of it.
                let spare = buffer.capacity() - buffer.len();
                let count = match stamp % 4 {
                    0 => spare,
                    _ => n.index(spare + 1),
                };
                buffer.put_bytes(stamp as u8, count);
                bytes.resize(bytes.len() + count, stamp as u8);
                Handle::Unique(buffer)
            }
            (Handle::Unique(mut buffer), What::Split) => {
                let at = n.index(buffer.capacity() + 1);
                let rest = buffer.split_off(at);
                let rest_bytes = bytes.split_off(at.min(bytes.len()));
                block.held.push(Held {
                    handle: Handle::Unique(rest),
                    bytes: rest_bytes,
                });
                Handle::Unique(buffer)
            }
            (Handle::Unique(buffer), What::Freeze) => Handle::Shared(buffer.freeze()),
            (Handle::Shared(buffer), What::Clone) => {
                block.held.push(Held {
                    handle: Handle::Shared(buffer.clone()),
                    bytes: bytes.clone(),
                });
                Handle::Shared(buffer)
            }
            (Handle::Shared(buffer), What::Slice) => {
                let from = n.index(bytes.len() + 1);
                let to = from + stamp as usize % (bytes.len() - from + 1);
                block.held.push(Held {
                    handle: Handle::Shared(buffer.slice(from..to)),
                    bytes: bytes[from..to].to_vec(),
                });
                Handle::Shared(buffer)
            }
            (Handle::Shared(buffer), What::Thaw) => {
                let alone = block.held.is_empty() && block.cached == 0;
                let free = buffer.block_len() == 0;
                match buffer.try_into_mut() {
                    Ok(buffer) => {
                        assert!(alone || free, "unique, though others hold it");
                        block.era += u64::from(!free);
                        Handle::Unique(buffer)
                    }
                    Err(buffer) => {
                        assert!(!alone && !free, "alone, and not unique");
                        Handle::Shared(buffer)
                    }
                }
            }
            (Handle::Shared(buffer), What::Downgrade) => {
                // Without a block there is nothing that could go.
                if buffer.block_len() > 0 {
                    self.weak.push(Weak {
                        weak: buffer.downgrade(),
                        bytes: bytes.clone(),
                        block: block.id,
                        era: block.era,
                    });
                }
                Handle::Shared(buffer)
            }
            (Handle::Shared(buffer), What::Cache) if buffer.block_len() > 0 => {
                return self.cache_insert(at, buffer, bytes, n.index(KEYS as usize) as u32);
            }
            (handle, _) => handle,
        };
        self.blocks[at].held.push(Held { handle, bytes });
        self.drop_free(at);
    }

    /// Empty shared handles keep no block: they are gone from the model as soon as they are checked.
    fn drop_free(&mut self, at: usize) {
        let block = &mut self.blocks[at];
        block.held.iter().for_each(Held::check);
        block.held.retain(|held| !held.is_free());
        self.forget_if_gone(at);
    }

    /// A weak handle gives the same bytes again if anyone keeps them, and nothing otherwise.
    pub(crate) fn upgrade(&mut self, index: &Index) {
        if self.weak.is_empty() {
            return;
        }
        let weak = &self.weak[index.index(self.weak.len())];
        let alive = |block: &&mut Block| block.id == weak.block && block.era == weak.era;
        let block = self.blocks.iter_mut().find(alive);
        match (weak.weak.upgrade(), block) {
            (Some(bytes), Some(block)) => {
                let held = Held {
                    handle: Handle::Shared(bytes),
                    bytes: weak.bytes.clone(),
                };
                held.check();
                block.held.push(held);
            }
            (None, None) => {}
            (upgraded, _) => panic!(
                "upgraded: {}, of a block that is otherwise",
                upgraded.is_some()
            ),
        }
    }

    // ---- the cache ----------------------------------------------------------------------------------------------

    fn cache_insert(&mut self, at: usize, buffer: DirectBytes, bytes: Vec<u8>, key: u32) {
        let (id, used) = (self.blocks[at].id, self.next());
        self.blocks[at].cached += 1;
        let old = self.cache.insert(key, buffer);
        let entry = Entry {
            block: id,
            bytes,
            used,
        };
        let expected = self.entries.insert(key, entry);
        self.give_back(old, expected);
    }

    /// What came out of the cache is held by hand again.
    fn give_back(&mut self, found: Option<DirectBytes>, expected: Option<Entry>) {
        let (Some(buffer), Some(entry)) = (&found, &expected) else {
            return assert!(found.is_none() && expected.is_none(), "another entry");
        };
        let held = Held {
            handle: Handle::Shared(buffer.clone()),
            bytes: entry.bytes.clone(),
        };
        drop(found);
        held.check();
        let at = self.at(entry.block);
        self.blocks[at].cached -= 1;
        self.blocks[at].held.push(held);
    }

    fn at(&self, id: u64) -> usize {
        let at = self.blocks.iter().position(|block| block.id == id);
        at.expect("the cache keeps it")
    }

    pub(crate) fn cache_get(&mut self, n: &Index) {
        let (key, used) = (n.index(KEYS as usize) as u32, self.next());
        let found = self.cache.get(&key);
        let Some(entry) = self.entries.get_mut(&key) else {
            self.misses += 1;
            return assert!(
                found.is_none(),
                "an entry that nobody made, or that was evicted"
            );
        };
        self.hits += 1;
        entry.used = used;
        let (id, bytes) = (entry.block, entry.bytes.clone());
        let held = Held {
            handle: Handle::Shared(found.expect("evicted out of turn")),
            bytes,
        };
        held.check();
        // Every other one only looks: so the entry may go at once, but in its new turn.
        if self.hits % 2 == 0 {
            let at = self.at(id);
            self.blocks[at].held.push(held);
        }
    }

    pub(crate) fn cache_remove(&mut self, key: u32) {
        let found = self.cache.remove(&key);
        let expected = self.entries.remove(&key);
        let at = expected.as_ref().map(|entry| self.at(entry.block));
        self.give_back(found, expected);
        if let Some(at) = at {
            self.blocks[at].held.pop();
            self.forget_if_gone(at);
        }
    }

    /// The entry that would go next: of those whose block nobody else holds, the one that was not used for the longest time.
    fn next_to_go(&self) -> Option<u32> {
        let alone = |id| {
            let block = &self.blocks[self.at(id)];
            block.held.is_empty() && block.cached == 1
        };
        let evictable = self.entries.iter().filter(|(_, entry)| alone(entry.block));
        let next = evictable.min_by_key(|(_, entry)| entry.used);
        next.map(|(key, _)| *key)
    }

    /// Follows the pool in what it has evicted since the last time, in the order in which it had to; answers how many.
    pub(crate) fn follow_evictions(&mut self) -> u64 {
        let evicted = self.cache.stats().evicted_total - self.evicted;
        for _ in 0..evicted {
            let key = self.next_to_go().expect("evicted what others hold");
            let entry = self.entries.remove(&key);
            let at = self.at(entry.expect("just found").block);
            self.blocks[at].cached -= 1;
            self.forget_if_gone(at);
        }
        self.evicted += evicted;
        evicted
    }

    pub(crate) fn is_evictable(&self) -> bool {
        self.next_to_go().is_some()
    }

    /// Every handle shows what it has to, and the cache has what it has to have.
    pub(crate) fn check(&self) {
        let held = self.blocks.iter().flat_map(|block| &block.held);
        held.for_each(Held::check);
        assert_eq!(self.cache.len(), self.entries.len());
        let pinned = self.entries.values();
        let pinned = pinned.map(|entry| self.blocks[self.at(entry.block)].len);
        assert_eq!(self.cache.bytes(), pinned.sum::<usize>());
        let stats = self.cache.stats();
        assert_eq!(
            (stats.hits_total, stats.misses_total, stats.evicted_total),
            (self.hits, self.misses, self.evicted)
        );
    }
}

impl Held {
    /// Keeps no block.
    fn is_free(&self) -> bool {
        match &self.handle {
            Handle::Unique(buffer) => buffer.block_len() == 0,
            Handle::Shared(buffer) => buffer.block_len() == 0,
        }
    }
}
