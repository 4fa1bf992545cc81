//! The exact cache in memory, bounded by entries and by bytes at once.
//!
//! moka knows one capacity. An entry weighs its bytes, but at least the share of one entry
//! (`max_bytes / max_entries`, rounded down, and the capacity with it): then neither bound can be
//! passed without the capacity being passed. Small entries so fill the cache by their count, large ones by their size. The least
//! recently used goes first: the answer that was just made is always there for its repeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::key::Key;
use super::stored::Stored;
use crate::config;

/// Answers by key.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    entries: Cache<Key, Entry>,
    /// Bytes of the answers, as far as moka has done its housekeeping.
    bytes: Arc<AtomicU64>,
    /// An entry of more bytes has no room.
    max_bytes: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    stored: Arc<Stored>,
    ttl: Duration,
}

impl Memory {
    /// An empty cache with the bounds of the config.
    pub(crate) fn new(config: &config::Cache) -> Self {
        // Weights are 32 bits: above 2 GiB they are counted in more than one byte.
        let unit = (config.max_bytes >> 31) + 1;
        let most = config.max_bytes / unit;
        let share = (most / config.max_entries.max(1)).max(1);
        let capacity = share.saturating_mul(config.max_entries).min(most);
        let bytes = Arc::new(AtomicU64::new(0));
        let freed = Arc::clone(&bytes);
        let entries = Cache::builder()
            .max_capacity(capacity)
            .eviction_policy(EvictionPolicy::lru())
            .weigher(move |_: &Key, entry: &Entry| {
                let weight = entry.bytes().div_ceil(unit).max(share);
                u32::try_from(weight).unwrap_or(u32::MAX)
            })
            .expire_after(ByTtl)
            .eviction_listener(move |_, entry: Entry, _| {
                freed.fetch_sub(entry.bytes(), Ordering::Relaxed);
            })
            .build();
        Self {
            entries,
            bytes,
            max_bytes: capacity * unit,
        }
    }

    /// The answer under a key, unless its time is over.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.entries.get(key).map(|entry| entry.stored)
    }

    /// Stores an answer, in place of one that is there, for `ttl` from now. One that is larger than
    /// the whole cache is not kept.
    pub(crate) fn put(&self, key: Key, stored: Stored, ttl: Duration) {
        let entry = Entry {
            stored: Arc::new(stored),
            ttl,
        };
        if entry.bytes() > self.max_bytes {
            // What was there is older than what cannot be kept.
            self.entries.invalidate(&key);
            return;
        }
        self.bytes.fetch_add(entry.bytes(), Ordering::Relaxed);
        self.entries.insert(key, entry);
    }

    /// Empties the cache; how many answers it held.
    pub(crate) fn clear(&self) -> u64 {
        let held = self.len();
        self.entries.invalidate_all();
        self.entries.run_pending_tasks();
        held
    }

    /// Answers in the cache.
    pub(crate) fn len(&self) -> u64 {
        self.entries.run_pending_tasks();
        self.entries.entry_count()
    }

    /// Bytes of the answers in the cache.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.run_pending_tasks();
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Entry {
    fn bytes(&self) -> u64 {
        (self.stored.bytes() + size_of::<Key>() + size_of::<Self>()) as u64
    }
}

/// Each entry lives for its own time, from when it was stored; reading does not prolong it.
struct ByTtl;

impl Expiry<Key, Entry> for ByTtl {
    fn expire_after_create(&self, _: &Key, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(
        &self,
        _: &Key,
        entry: &Entry,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Endpoint;
    use crate::cache::stored::StoredBody;
    use bytes::Bytes;
    use std::time::SystemTime;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn memory(max_entries: u64, max_bytes: u64) -> Memory {
        Memory::new(&config::Cache {
            enabled: true,
            max_entries,
            max_bytes,
            max_entry_bytes: 1 << 20,
            ttl: HOUR,
            max_ttl: HOUR,
            epoch: String::new(),
        })
    }

    fn stored(bytes: usize) -> Stored {
        Stored {
            endpoint: Endpoint::Chat,
            body: StoredBody::Plain(Bytes::from(vec![b'x'; bytes])),
            model: "m".into(),
            created: SystemTime::UNIX_EPOCH,
            content_type: "application/json".into(),
            usage: None,
        }
    }

    fn key(n: u8) -> Key {
        Key([n; 32])
    }

    #[test]
    fn entries_are_bounded_by_their_number() {
        let memory = memory(10, 1 << 30);
        for n in 0..100 {
            memory.put(key(n), stored(10), HOUR);
        }
        assert_eq!(memory.len(), 10);
        assert!(memory.get(&key(99)).is_some());
        assert!(memory.get(&key(0)).is_none());
    }

    #[test]
    fn an_entry_without_room_takes_the_older_one_along() {
        let memory = memory(10, 1_000);
        memory.put(key(1), stored(10), HOUR);
        assert!(memory.get(&key(1)).is_some());
        memory.put(key(1), stored(5_000), HOUR);
        assert!(memory.get(&key(1)).is_none());
        assert_eq!((memory.len(), memory.bytes()), (0, 0));
    }

    #[test]
    fn entries_are_bounded_by_their_bytes() {
        let memory = memory(1_000, 100_000);
        for n in 0..100 {
            memory.put(key(n), stored(10_000), HOUR);
        }
        assert!((8..10).contains(&memory.len()), "{}", memory.len());
        assert!(memory.bytes() <= 100_000, "{}", memory.bytes());
    }

    #[test]
    fn bounds_hold_beyond_32_bits_of_weight() {
        let memory = memory(2, 1 << 40);
        for n in 0..5 {
            memory.put(key(n), stored(10), HOUR);
        }
        assert_eq!(memory.len(), 2);
    }

    #[test]
    fn a_cache_without_room_keeps_nothing() {
        for memory in [memory(0, 1 << 20), memory(10, 0), memory(10, 100)] {
            memory.put(key(1), stored(10), HOUR);
            assert_eq!((memory.len(), memory.bytes()), (0, 0));
        }
    }

    #[test]
    fn clear_says_how_many_went_and_frees_their_bytes() {
        let memory = memory(10, 1 << 20);
        memory.put(key(1), stored(10), HOUR);
        memory.put(key(1), stored(20), HOUR);
        memory.put(key(2), stored(30), HOUR);
        assert!(memory.bytes() >= 50);
        assert_eq!(memory.clear(), 2);
        assert!(memory.get(&key(1)).is_none());
        assert_eq!((memory.len(), memory.bytes()), (0, 0));
    }

    #[test]
    fn an_entry_lives_for_its_own_time() {
        let memory = memory(10, 1 << 20);
        memory.put(key(1), stored(10), Duration::ZERO);
        memory.put(key(2), stored(10), Duration::ZERO);
        memory.put(key(2), stored(10), HOUR);
        memory.put(key(3), stored(10), HOUR);
        memory.put(key(3), stored(10), Duration::ZERO);
        assert!(memory.get(&key(1)).is_none());
        assert!(memory.get(&key(2)).is_some());
        assert!(memory.get(&key(3)).is_none());
    }
}
