//! A cache whose buffers the pool takes back when it needs the memory.
//!
//! Entries lie in a `DashMap`; their order of use lies beside it, under a lock that `get` does not take: it only writes down in the
//! entry when it was used. Whoever evicts looks at the entry that was first in line, and if it was used since, moves it to where it
//! belongs now. So the order is exact when it is needed, and costs nothing before.
//!
//! Inserting, removing and evicting hold the order's lock while they are at the map; nobody takes it the other way round. Keys and
//! buffers are dropped without either.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use dashmap::mapref::entry::Entry as Place;
use dashmap::DashMap;

use super::DirectBytes;
use crate::engine::{Engine, HasEngine, Soft};
use crate::pool::Pool;
use crate::sync::lock;

/// Pooled bytes by key, until the pool needs the memory: the JVM's `SoftReference` cache.
///
/// Before a reservation of the pool parks, and as long as one waits, cached buffers are taken back, the least recently used
/// first, as many as are needed: never one of which others hold a handle, weak ones aside. The pool counts them as live. When the pool
/// is closed, the cache lets go of all that it can.
///
/// A buffer counts as used when it is inserted and by each [`get`](Self::get). What is taken back is a whole block: slices of one
/// block under several keys keep each other (see [`DirectBytes::block_len`]).
///
/// Clones are the same cache. It keeps the pool open.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(64 << 10).build()?;
/// let cache = offheap::SoftCache::<String>::new(&pool);
/// let page = pool.copy_from_slice(&[7; 64 << 10]).await?;
/// cache.insert("front page".into(), page);
/// assert!(cache.get("front page").is_some());
///
/// // The limit has no room for both: the cache makes way.
/// let buf = pool.reserve(64 << 10).await?;
/// assert!(cache.get("front page").is_none());
/// assert_eq!(cache.stats().evicted_total, 1);
/// # drop(buf);
/// # Ok(())
/// # }
/// ```
pub struct SoftCache<K: Eq + Hash + Clone + Send + Sync + 'static> {
    shared: Arc<Shared<K>>,
}

/// What a cache was good for so far. From [`SoftCache::stats`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// How often `get` found something.
    pub hits_total: u64,
    /// How often it did not.
    pub misses_total: u64,
    /// How many buffers the pool has taken back.
    pub evicted_total: u64,
}

struct Shared<K: Eq + Hash> {
    pool: Pool,
    entries: DashMap<K, Entry>,
    /// Keys by their entry's `place`.
    order: Mutex<BTreeMap<u64, K>>,
    bytes: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    evicted: AtomicU64,
    /// One more than the pool's soft state for which nothing was evictable.
    dry: AtomicU64,
}

struct Entry {
    bytes: DirectBytes,
    /// When it was last used, by the pool's count of uses.
    used: AtomicU64,
    /// Where its key stands in the order. Changes under the order's lock.
    place: AtomicU64,
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> SoftCache<K> {
    /// An empty cache, which gives its buffers back to `pool` when that needs them.
    pub fn new(pool: &Pool) -> Self {
        let shared = Arc::new(Shared {
            pool: pool.clone(),
            entries: DashMap::new(),
            order: Mutex::default(),
            bytes: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            dry: AtomicU64::new(0),
        });
        let weak: Weak<Shared<K>> = Arc::downgrade(&shared);
        pool.engine().add_cache(weak);
        SoftCache { shared }
    }

    /// Puts a buffer under a key; answers the one that was there before. O(log n).
    ///
    /// Buffers of another pool are kept and counted all the same, but when they go they help that pool, not this one's waiters.
    pub fn insert(&self, key: K, bytes: DirectBytes) -> Option<DirectBytes> {
        let shared = &*self.shared;
        bytes.mark_soft();
        let now = shared.engine().count_use();
        shared
            .bytes
            .fetch_add(bytes.block_len() as u64, Ordering::Relaxed);
        let entry = Entry {
            bytes,
            used: AtomicU64::new(now),
            place: AtomicU64::new(now),
        };
        let old = {
            let mut order = lock(&shared.order);
            order.insert(now, key.clone());
            match shared.entries.entry(key) {
                Place::Vacant(place) => {
                    place.insert(entry);
                    None
                }
                Place::Occupied(place) => {
                    let (key, old) = place.replace_entry(entry);
                    let in_order = order.remove(&old.place.load(Ordering::Relaxed));
                    Some((key, old, in_order))
                }
            }
        };
        shared.engine().soft_news();
        let (_, old, _) = old?;
        Some(shared.give(old))
    }

    /// The buffer under a key, which is used by this. O(1), one more handle to the same block.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<DirectBytes>
    where
        K: Borrow<Q>,
    {
        let shared = &*self.shared;
        let found = shared.entries.get(key).map(|entry| {
            let now = shared.engine().count_use();
            entry.used.fetch_max(now, Ordering::Relaxed);
            entry.bytes.clone()
        });
        let count = match found {
            Some(_) => &shared.hits,
            None => &shared.misses,
        };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Takes the buffer under a key out of the cache. O(log n).
    pub fn remove<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<DirectBytes>
    where
        K: Borrow<Q>,
    {
        let shared = &*self.shared;
        let (_key, entry, _in_order) = {
            let mut order = lock(&shared.order);
            let (key, entry) = shared.entries.remove(key)?;
            let in_order = order.remove(&entry.place.load(Ordering::Relaxed));
            (key, entry, in_order)
        };
        Some(shared.give(entry))
    }

    /// Lets go of all buffers.
    pub fn clear(&self) {
        let shared = &*self.shared;
        loop {
            // One at a time, so that the locks are not held while anything drops.
            let Some(key) = lock(&shared.order).values().next().cloned() else {
                return;
            };
            drop(self.remove(&key));
        }
    }

    /// How many buffers there are.
    pub fn len(&self) -> usize {
        self.shared.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.shared.entries.is_empty()
    }

    /// Bytes of the blocks that the cache keeps. A block under several keys is counted as often.
    pub fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Relaxed) as usize
    }

    /// Hits, misses and evictions so far.
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            hits_total: self.shared.hits.load(Ordering::Relaxed),
            misses_total: self.shared.misses.load(Ordering::Relaxed),
            evicted_total: self.shared.evicted.load(Ordering::Relaxed),
        }
    }
}

impl<K: Eq + Hash> Shared<K> {
    fn engine(&self) -> &Engine {
        HasEngine::engine(&self.pool)
    }

    /// The buffer of an entry that was taken out.
    fn give(&self, entry: Entry) -> DirectBytes {
        let pinned = entry.bytes.block_len() as u64;
        self.bytes.fetch_sub(pinned, Ordering::Relaxed);
        entry.bytes
    }

    /// The place of the buffer that was not used for the longest time and that no one else holds.
    fn first(&self, order: &mut BTreeMap<u64, K>) -> Option<u64> {
        let mut from = 0;
        loop {
            let (&place, key) = order.range(from..).next()?;
            from = place + 1;
            let entry = self.entries.get(key)?;
            let used = entry.used.load(Ordering::Relaxed);
            if used == place {
                if entry.bytes.is_unique() {
                    return Some(place);
                }
                // Others hold it: not this one.
                continue;
            }
            entry.place.store(used, Ordering::Relaxed);
            drop(entry);
            if let Some(key) = order.remove(&place) {
                order.insert(used, key);
            }
        }
    }

    /// Looks for something to evict, unless nothing has changed since there was none.
    fn look<R>(&self, f: impl FnOnce(&mut BTreeMap<u64, K>) -> Option<R>) -> Option<R> {
        let state = self.engine().soft_state().wrapping_add(1);
        if self.dry.load(Ordering::Relaxed) == state {
            return None;
        }
        let found = f(&mut lock(&self.order));
        if found.is_none() {
            self.dry.store(state, Ordering::Relaxed);
        }
        found
    }
}

impl<K: Eq + Hash + Send + Sync> Soft for Shared<K> {
    fn oldest(&self) -> Option<u64> {
        self.look(|order| self.first(order))
    }

    fn evict(&self) -> bool {
        let evicted = self.look(|order| loop {
            let place = self.first(order)?;
            let key = order.get(&place)?;
            // While the entry is locked no one gets another handle from it.
            let alone = |_: &K, entry: &Entry| {
                entry.used.load(Ordering::Relaxed) == place && entry.bytes.is_unique()
            };
            if let Some((key, entry)) = self.entries.remove_if(key, alone) {
                return Some((key, order.remove(&place), entry));
            }
        });
        let Some((_key, _in_order, entry)) = evicted else {
            return false;
        };
        self.evicted.fetch_add(1, Ordering::Relaxed);
        // So that what hooks the buffer has are done, and its memory is there, when this returns.
        self.give(entry).clean();
        true
    }
}

impl<K: Eq + Hash> Drop for Shared<K> {
    fn drop(&mut self) {
        self.engine().remove_cache();
    }
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> Clone for SoftCache<K> {
    fn clone(&self) -> Self {
        SoftCache {
            shared: self.shared.clone(),
        }
    }
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> fmt::Debug for SoftCache<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftCache")
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
