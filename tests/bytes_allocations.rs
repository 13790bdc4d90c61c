//! What touches the heap: nothing that is done with pooled buffers, once the pool's own memory has been used; and exactly one
//! allocation makes a `Bytes` of a buffer.

#![allow(clippy::type_complexity, clippy::collapsible_match)]

#[path = "support/counting.rs"]
mod counting;
#[path = "support/starved.rs"]
mod starved;

use bytes::{Buf, BufMut, Bytes};
use futures::FutureExt;
use offheap::{DirectBytes, DirectBytesMut, Pool};
use tokio::runtime::Runtime;

use counting::allocations;
use starved::starved;

fn pool() -> (Pool, Runtime) {
    starved(Pool::builder().limit(4 << 20))
}

fn shared(pool: &Pool) -> DirectBytes {
    pool.try_copy_from_slice(&[7; 5000]).unwrap()
}

#[test]
fn nothing_that_is_done_with_buffers() {
    let (pool, _runtime) = pool();
    type Way = fn(&Pool);
    let ways: [(&str, Way); 14] = [
        ("reserve", |pool| drop(pool.reserve(5000).now_or_never())),
        ("reserve_zeroed", |pool| {
            drop(pool.reserve_zeroed(5000).now_or_never())
        }),
        ("try_reserve", |pool| drop(pool.try_reserve(5000))),
        ("freeze", |pool| {
            drop(pool.try_reserve(5000).unwrap().freeze())
        }),
        ("clone", |pool| drop(shared(pool).clone())),
        ("slice", |pool| drop(shared(pool).slice(..10))),
        ("slice_ref", |pool| {
            let all = shared(pool);
            drop(all.slice_ref(&all[10..20]));
        }),
        ("split", |pool| {
            let mut all = shared(pool);
            drop(all.split_off(100));
            drop(all.split_to(10));
        }),
        ("split of a writable one", |pool| {
            let mut all = shared(pool).try_into_mut().unwrap();
            let back = all.split_off(100);
            drop(all.split_to(10));
            drop(all.unsplit(back));
        }),
        ("try_into_mut and back", |pool| {
            let buffer = shared(pool).try_into_mut().unwrap();
            assert!(buffer.freeze().try_into_mut().unwrap().try_reclaim(1));
        }),
        ("try_grow", |pool| {
            let mut buffer = pool.try_reserve(5000).unwrap();
            buffer.try_grow(20_000).unwrap();
        }),
        ("typed writes and reads", |pool| {
            let mut buffer = pool.try_reserve(100).unwrap();
            buffer.put_u64(1);
            buffer.try_put_i128_le(2).unwrap();
            buffer.put_bytes(3, 20);
            assert_eq!(buffer.get_u64(), 1);
            assert_eq!(buffer.freeze().get_i128_le(), 2);
        }),
        ("static", |_| {
            drop(DirectBytes::from_static(b"text").slice(1..))
        }),
        ("drop", |pool| drop(vec_of_one(shared(pool)))),
    ];
    for (name, way) in ways {
        // The first time, classes that were never used make their magazines.
        way(&pool);
        assert_eq!(allocations(|| way(&pool)).0, 0, "{name}");
    }
    assert_eq!(pool.stats().buffers, 0);
}

/// A holder of one buffer without a list.
fn vec_of_one(buffer: DirectBytes) -> [DirectBytes; 1] {
    [buffer]
}

#[test]
fn exactly_one_for_a_bytes() {
    let (pool, _runtime) = pool();
    drop(shared(&pool));
    let direct = shared(&pool);
    let (count, bytes) = allocations(|| Bytes::from(direct));
    assert_eq!(count, 1);
    // Its clones and slices are free, and the last one frees what the first one took.
    let (count, clones) = allocations(|| (bytes.clone(), bytes.slice(10..)));
    assert_eq!(count, 0);
    drop(bytes);
    assert_eq!(allocations(|| drop(clones)).0, 1);
    assert_eq!(pool.stats().buffers, 0);

    let mut buffer = shared(&pool).try_into_mut().unwrap();
    let (count, front) = allocations(|| buffer.copy_to_bytes(10));
    assert_eq!(count, 1);
    let (count, rest) = allocations(|| Bytes::from(buffer));
    assert_eq!(count, 1);
    drop((front, rest));
    assert_eq!(pool.stats().buffers, 0);
}

#[test]
fn none_for_a_bytes_of_nothing_or_of_static_memory() {
    let (count, _) = allocations(|| {
        [
            Bytes::from(DirectBytes::new()),
            Bytes::from(DirectBytes::from_static(b"text")),
            Bytes::from(DirectBytesMut::new()),
        ]
    });
    assert_eq!(count, 0);
}

#[test]
fn one_for_a_copy_on_the_heap_and_it_is_asked_for() {
    let (pool, _runtime) = pool();
    let all = shared(&pool);
    assert_eq!(allocations(|| all.slice_or_detach(..10, 4)).0, 1);
    assert_eq!(
        allocations(|| all.slice_or_detach(.., 4)).0,
        1,
        "the handle of a `Bytes`"
    );
    assert_eq!(allocations(|| all.clone().detach()).0, 1);
    assert_eq!(allocations(|| Vec::from(all)).0, 1);
}
