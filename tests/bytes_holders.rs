//! `pinned_waste`: bytes of blocks that only small slices hold, told from the handles' own count.

#![allow(clippy::type_complexity, clippy::collapsible_match)]

use std::thread;

use bytes::{Buf, BufMut, Bytes};
use offheap::{DirectBytes, Pool};

const KIB: usize = 1 << 10;

fn pool() -> Pool {
    Pool::builder().limit(1 << 20).build().unwrap()
}

fn waste(pool: &Pool) -> u64 {
    pool.holders()
        .iter()
        .map(|holder| holder.pinned_waste)
        .sum()
}

fn filled(pool: &Pool, n: usize) -> DirectBytes {
    let mut buffer = pool.try_reserve(n).unwrap();
    buffer.put_bytes(7, n);
    buffer.freeze()
}

#[test]
fn a_small_slice_of_a_large_block() {
    let pool = pool();
    let all = filled(&pool, 64 * KIB);
    let block = all.block_len() as u64;
    let name = all.slice(..16);
    let value = all.slice(100..116);
    assert_eq!(waste(&pool), 0, "it is held as a whole");
    drop(all);
    assert_eq!(waste(&pool), block);
    let holder = pool.holders()[0];
    assert_eq!((holder.count, holder.bytes), (1, block));
    assert!(
        holder.to_string().contains("held by small slices only"),
        "{holder}"
    );
    drop(name);
    assert_eq!(waste(&pool), block);
    let value = value.detach();
    assert_eq!((waste(&pool), pool.stats().live, value.len()), (0, 0, 16));
}

/// Each way in which a handle to a small part comes about, and each in which it does not.
#[test]
fn every_way_to_become_small() {
    let pool = pool();
    type Way = fn(DirectBytes) -> DirectBytes;
    let ways: [(&str, Way); 8] = [
        ("slice", |all| all.slice(5..10)),
        ("slice of a slice", |all| all.slice(5..).slice(..5)),
        ("slice_ref", |all| all.slice_ref(&all[5..10])),
        ("split_to", |mut all| all.split_to(5)),
        ("split_off", |mut all| all.split_off(all.len() - 5)),
        ("the rest of a split", |mut all| {
            drop(all.split_off(5));
            all
        }),
        ("truncate", |mut all| {
            all.truncate(5);
            all
        }),
        ("a clone of it", |all| all.slice(..5).clone()),
    ];
    for (name, way) in ways {
        let all = filled(&pool, 64 * KIB);
        let (block, shared) = (all.block_len() as u64, all.clone());
        let small = way(all);
        assert_eq!(small.len(), 5);
        assert_eq!(waste(&pool), 0, "{name}, while all of it is held too");
        drop(shared);
        assert_eq!(waste(&pool), block, "{name}");
        // As writable it reaches to the block's end.
        let buffer = small.try_into_mut().unwrap();
        let large = buffer.capacity() > 8 * KIB;
        assert_eq!(waste(&pool), if large { 0 } else { block }, "{name}");
        assert_eq!(buffer[0], 7);
        drop(buffer);
        assert_eq!((waste(&pool), pool.stats().live), (0, 0));
    }
}

#[test]
fn what_is_large_enough_is_no_waste() {
    let pool = pool();
    let block = filled(&pool, 64 * KIB).block_len();
    for (len, expected) in [(block / 8, block), (block / 8 + 1, 0), (block, 0)] {
        let part = filled(&pool, block).slice(..len);
        assert_eq!(waste(&pool), expected as u64, "{len} bytes");
        drop(part);
    }
    // A message that is small in a large block from the beginning.
    let mut buffer = pool.try_reserve(64 * KIB).unwrap();
    buffer.put_slice(b"short");
    assert_eq!(waste(&pool), 0, "it may still be filled");
    let short = buffer.freeze();
    assert_eq!(waste(&pool), block as u64);
    drop(short);
    // Blocks below a page are not worth it.
    let _small = filled(&pool, 3 * KIB).slice(..1);
    assert_eq!(waste(&pool), 0);
}

#[test]
fn frames_of_a_read_buffer() {
    let pool = pool();
    let mut buffer = pool.try_reserve(64 * KIB).unwrap();
    buffer.put_bytes(1, 64 * KIB);
    let frames: Vec<_> = (0..900).map(|_| buffer.split_to(16).freeze()).collect();
    assert_eq!(waste(&pool), 0, "the rest is still with the reader");
    let block = buffer.block_len() as u64;
    drop(buffer);
    assert_eq!(waste(&pool), block);
    drop(frames);
    assert_eq!(pool.stats().live, 0);
}

/// A part that grows together again is no longer small.
#[test]
fn parts_that_are_joined() {
    let pool = pool();
    let mut front = pool.try_reserve(64 * KIB).unwrap();
    front.put_bytes(1, 64 * KIB);
    let block = front.block_len() as u64;
    let back = front.split_off(10);
    drop(front.split_to(5));
    assert_eq!(waste(&pool), 0);
    let mut front = thread::spawn(move || front).join().unwrap();
    front.unsplit(back).unwrap();
    assert_eq!((waste(&pool), front.len()), (0, 64 * KIB - 5));
    drop(front.split_off(10));
    assert_eq!(waste(&pool), block);
    assert!(front.try_reclaim(60 * KIB));
    assert_eq!(waste(&pool), 0);
}

#[test]
fn advancing_does_not_count() {
    let pool = pool();
    let mut all = filled(&pool, 64 * KIB);
    all.advance(64 * KIB - 1);
    assert_eq!(waste(&pool), 0);
    let bytes = Bytes::from(all.clone());
    assert_eq!(all.get_u8(), 7);
    assert_eq!((waste(&pool), pool.stats().buffers), (0, 1));
    drop(bytes);
    assert_eq!(pool.stats().buffers, 0);
}

/// The figure does not depend on who cloned, sliced and dropped where.
#[test]
fn handles_in_other_threads() {
    let pool = pool();
    let all = filled(&pool, 64 * KIB);
    let block = all.block_len() as u64;
    let threads: Vec<_> = (0..8)
        .map(|i| {
            let all = all.clone();
            thread::spawn(move || {
                let parts: Vec<_> = (0..50)
                    .map(|j| all.slice(i * 50 + j..i * 50 + j + 9))
                    .collect();
                let mut shrunk = all.clone();
                shrunk.truncate(10);
                drop(all);
                (parts.clone(), shrunk)
            })
        })
        .collect();
    let parts: Vec<_> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(waste(&pool), 0);
    drop(all);
    assert_eq!(waste(&pool), block);
    drop(parts);
    assert_eq!((waste(&pool), pool.stats().live), (0, 0));
}
