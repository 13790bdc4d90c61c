//! What a large pool costs before it is used: next to nothing.
#![cfg(all(target_os = "linux", not(offheap_heap)))]

use std::fs;

use offheap::Pool;

/// Resident bytes of the process.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// One after another in one test, so that nothing else of the process grows meanwhile.
#[test]
fn a_pool_of_64_gib_is_less_than_a_mebibyte_until_it_is_used() {
    const LIMIT: usize = 64 << 30;
    // What the process needs once.
    drop(Pool::builder().limit(1 << 20).build().unwrap());
    for huge_pages in [false, true] {
        let before = resident();
        let pool = Pool::builder()
            .limit(LIMIT)
            .huge_pages(huge_pages)
            .build()
            .unwrap();
        let cost = resident().saturating_sub(before);
        assert!(cost < 1 << 20, "{cost} bytes for an unused pool");
        let stats = pool.stats();
        assert!(stats.metadata < 1 << 20, "{stats:?}");
        assert_eq!((stats.committed, pool.max_reserve()), (0, LIMIT));
        // One page of the one, and the table of headers grows by what is used.
        drop(pool.try_reserve(4096).unwrap());
        let cost = resident().saturating_sub(before);
        assert!(cost < 1 << 20, "{cost} bytes for a pool with one buffer");
    }
}
