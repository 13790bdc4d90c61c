//! `DirectBytes` and `DirectBytesMut`: each way in which they differ from `Bytes` and `BytesMut` on purpose, and each that the random
//! operations of `bytes_model` do not reach.

#[path = "support/config.rs"]
mod config;
#[path = "support/panics.rs"]
mod panics;

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};
use std::io::Write as _;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use offheap::{DirectBytes, DirectBytesMut, Pool};
use proptest::prelude::*;

use config::cases;
use panics::attempt;

fn pool() -> Pool {
    Pool::builder().limit(1 << 20).build().unwrap()
}

/// A buffer of the smallest capacity that holds `n`, with these contents.
fn unique(pool: &Pool, n: usize, contents: &[u8]) -> DirectBytesMut {
    let mut buffer = pool.try_reserve(n).unwrap();
    buffer.extend_from_slice(contents);
    buffer
}

fn shared(pool: &Pool, contents: &[u8]) -> DirectBytes {
    unique(pool, contents.len(), contents).freeze()
}

proptest! {
    #![proptest_config(cases(1))]

    #[test]
    fn compares_with_all_that_bytes_compares_with(a in "[a-c]{0,3}", b in "[a-c]{0,3}") {
        let pool = pool();
        let order = Some(a.cmp(&b));
        let (bytes, bytes_mut) = (Bytes::from(b.clone()), BytesMut::from(&b[..]));
        macro_rules! check {
            ($ours:expr) => {{
                let ours = $ours;
                prop_assert_eq!(ours == *b.as_bytes(), a == b);
                prop_assert_eq!(ours == *b.as_str(), a == b);
                prop_assert_eq!(ours == b.as_bytes().to_vec(), a == b);
                prop_assert_eq!(ours == b, a == b);
                prop_assert_eq!(ours == b.as_bytes(), a == b);
                prop_assert_eq!(ours == b.as_str(), a == b);
                prop_assert_eq!(ours == bytes, a == b);
                prop_assert_eq!(ours == bytes_mut, a == b);
                prop_assert_eq!(*b.as_bytes() == ours, a == b);
                prop_assert_eq!(*b.as_str() == ours, a == b);
                prop_assert_eq!(b.as_bytes().to_vec() == ours, a == b);
                prop_assert_eq!(b == ours, a == b);
                prop_assert_eq!(b.as_bytes() == ours, a == b);
                prop_assert_eq!(b.as_str() == ours, a == b);
                prop_assert_eq!(bytes == ours, a == b);
                prop_assert_eq!(bytes_mut == ours, a == b);
                prop_assert_eq!(ours.partial_cmp(b.as_bytes()), order);
                prop_assert_eq!(ours.partial_cmp(b.as_str()), order);
                prop_assert_eq!(ours.partial_cmp(&b), order);
                prop_assert_eq!(ours.partial_cmp(&bytes), order);
                prop_assert_eq!(ours.partial_cmp(&bytes_mut), order);
                prop_assert_eq!(b.partial_cmp(&ours), order.map(|order| order.reverse()));
                prop_assert_eq!(bytes.partial_cmp(&ours), order.map(|order| order.reverse()));
            }};
        }
        check!(unique(&pool, 16, a.as_bytes()));
        check!(shared(&pool, a.as_bytes()));
    }
}

#[test]
fn a_shared_buffer_is_24_bytes() {
    assert_eq!(size_of::<DirectBytes>(), 24);
    assert_eq!(size_of::<Option<DirectBytes>>(), 24);
}

#[test]
fn debug_is_that_of_bytes_for_every_byte() {
    let every: Vec<u8> = (0..=255).collect();
    let ours = shared(&pool(), &every);
    assert_eq!(format!("{ours:?}"), format!("{:?}", Bytes::from(every)));
}

#[test]
fn a_map_finds_a_buffer_by_its_contents() {
    let pool = pool();
    let map = HashMap::from([(shared(&pool, b"one"), 1), (shared(&pool, b"two"), 2)]);
    assert_eq!(map.get(&b"two"[..]), Some(&2));
    assert_eq!(map.get(&b"three"[..]), None);
    let set = HashSet::from([Bytes::from("one")]);
    assert!(set.contains(&shared(&pool, b"one")[..]));
}

#[test]
fn an_empty_shared_buffer_pins_nothing() {
    let ways: [fn(&mut DirectBytes); 8] = [
        |buffer| buffer.truncate(0),
        |buffer| buffer.clear(),
        |buffer| buffer.advance(5),
        |buffer| drop(buffer.split_off(0)),
        |buffer| drop(buffer.split_to(5)),
        |buffer| drop(Buf::copy_to_bytes(buffer, 5)),
        |buffer| Buf::copy_to_slice(buffer, &mut [0; 5]),
        |buffer| *buffer = buffer.slice(2..2),
    ];
    let pool = pool();
    for (i, way) in ways.into_iter().enumerate() {
        let mut buffer = shared(&pool, b"hello");
        assert_eq!(pool.stats().buffers, 1);
        way(&mut buffer);
        assert!(buffer.is_empty(), "way {i}");
        assert_eq!(pool.stats().buffers, 0, "way {i}");
        assert_eq!((buffer.block_len(), buffer.is_unique()), (0, false));
        assert!(buffer.clone().try_into_mut().is_err());
        assert_eq!(buffer.split_to(0), b""[..]);
        assert_eq!(buffer.split_off(0), b""[..]);
    }
    let empty = pool.try_reserve(100).unwrap().freeze();
    assert!(empty.is_empty());
    assert_eq!(pool.stats().buffers, 0, "frozen before it was written");
}

#[test]
fn empty_parts_do_not_pin_the_block() {
    let pool = pool();
    let mut all = shared(&pool, b"hello");
    let parts = [
        all.slice(5..),
        all.slice_ref(&[]),
        all.split_to(0),
        all.split_off(5),
    ];
    assert!(all.is_unique());
    drop(all);
    assert_eq!(pool.stats().buffers, 0);
    assert!(parts.iter().all(DirectBytes::is_empty));
}

#[test]
fn an_empty_unique_buffer_keeps_its_block() {
    let pool = pool();
    let mut buffer = unique(&pool, 100, b"hello");
    let capacity = buffer.capacity();
    buffer.clear();
    assert_eq!((buffer.len(), buffer.capacity()), (0, capacity));
    assert_eq!((pool.stats().buffers, buffer.block_len()), (1, capacity));
    buffer.put_bytes(7, capacity);
    buffer.truncate(0);
    assert_eq!(pool.stats().buffers, 1);
    buffer.put_bytes(8, capacity);
    assert!(buffer.iter().all(|&byte| byte == 8));
    drop(buffer);
    assert_eq!(pool.stats().buffers, 0);
}

#[test]
fn a_buffer_without_a_pool() {
    let mut buffer = DirectBytesMut::default();
    assert_eq!((buffer.capacity(), buffer.block_len()), (0, 0));
    assert_eq!(buffer.write(b"x").unwrap(), 0);
    assert!(buffer.try_put_slice(b"").is_ok());
    assert!(buffer.split().is_empty() && buffer.split_off(0).is_empty());
    assert_eq!(attempt(|| buffer.put_u8(1)), None);
    assert_eq!(buffer.freeze(), DirectBytes::new());
    assert_eq!(DirectBytes::default(), b""[..]);
    assert!(Bytes::from(DirectBytes::new()).is_empty());
}

#[test]
fn never_grows() {
    let pool = pool();
    let mut buffer = pool.try_reserve(300).unwrap();
    let capacity = buffer.capacity();
    buffer.put_bytes(1, capacity - 3);
    let before = buffer.to_vec();
    let ways: [fn(&mut DirectBytesMut); 8] = [
        |buffer| buffer.put_u32(1),
        |buffer| buffer.put_slice(b"four"),
        |buffer| buffer.put(&b"four"[..]),
        |buffer| buffer.put_bytes(0, 4),
        |buffer| buffer.put_bytes(0, usize::MAX),
        |buffer| buffer.extend_from_slice(b"four"),
        |buffer| buffer.resize(buffer.capacity() + 1, 0),
        |buffer| buffer.resize(usize::MAX, 0),
    ];
    for (i, way) in ways.into_iter().enumerate() {
        assert_eq!(attempt(|| way(&mut buffer)), None, "way {i}");
        assert_eq!((buffer.capacity(), &buffer[..]), (capacity, &before[..]));
    }
    buffer.resize(capacity, 9);
    assert_eq!((buffer.len(), buffer.remaining_mut()), (capacity, 0));
    assert_eq!(attempt(|| buffer.put_u8(1)), None);
    assert_eq!(attempt(|| buffer.extend([1])), None);
    assert_eq!(buffer.len(), capacity);
}

#[test]
fn io_write_writes_what_fits() {
    let pool = pool();
    let mut buffer = pool.try_reserve(256).unwrap();
    let capacity = buffer.capacity();
    buffer.put_bytes(0, capacity - 3);
    assert_eq!(buffer.write(b"hello").unwrap(), 3);
    assert!(buffer.ends_with(b"\0hel"));
    assert_eq!(buffer.write(b"lo").unwrap(), 0);
    assert_eq!(
        buffer.write_all(b"lo").unwrap_err().kind(),
        std::io::ErrorKind::WriteZero
    );
    buffer.flush().unwrap();
    assert_eq!(buffer.len(), capacity);
}

#[test]
fn fmt_write_is_all_or_nothing() {
    let pool = pool();
    let mut buffer = pool.try_reserve(256).unwrap();
    let capacity = buffer.capacity();
    buffer.put_bytes(0, capacity - 3);
    assert_eq!(buffer.write_str("four"), Err(fmt::Error));
    assert_eq!(buffer.len(), capacity - 3);
    let written = fmt::Write::write_fmt(&mut buffer, format_args!("{}", 123));
    assert_eq!(written, Ok(()));
    assert!(buffer.ends_with(b"\x00123"));
    assert_eq!(buffer.write_char('x'), Err(fmt::Error));
    assert_eq!(buffer.write_str(""), Ok(()));
}

#[test]
fn a_slice_that_does_not_fit_leaves_the_contents() {
    let pool = pool();
    let mut buffer = unique(&pool, 256, b"hello");
    let available = buffer.capacity() - 5;
    let error = buffer.try_put_slice(&vec![1; available + 1]).unwrap_err();
    assert_eq!(
        (error.requested, error.available),
        (available + 1, available)
    );
    assert!(error.to_string().contains("does not grow"));
    assert_eq!(buffer, b"hello"[..]);
    assert_eq!(buffer.try_put_slice(&vec![1; available]), Ok(()));
    assert_eq!(buffer.len(), buffer.capacity());
}

#[test]
fn becomes_bytes_without_a_copy() {
    let pool = pool();
    let all = shared(&pool, b"hello world");
    let part = all.slice(6..);
    let at = part.as_ptr();
    let bytes = Bytes::from(part);
    assert_eq!(bytes.as_ptr(), at);
    drop(all);
    let clone = bytes.slice(1..);
    drop(bytes);
    assert_eq!(clone, "orld");
    assert_eq!(pool.stats().buffers, 1, "a clone is left");
    drop(clone);
    assert_eq!(pool.stats().buffers, 0);
}

#[test]
fn copy_to_bytes_does_not_copy() {
    let pool = pool();
    let mut all = shared(&pool, b"hello world");
    let at = all.as_ptr();
    let bytes = all.copy_to_bytes(5);
    assert_eq!((bytes.as_ptr(), &bytes[..]), (at, &b"hello"[..]));
    assert_eq!(all, b" world"[..]);
    drop(all);
    assert_eq!(pool.stats().buffers, 1);
    drop(bytes);
    assert_eq!(pool.stats().buffers, 0);
}

#[test]
fn only_the_last_handle_becomes_writable() {
    let pool = pool();
    let all = shared(&pool, b"hello world");
    let block = all.block_len();
    let (start, part) = (all.as_ptr(), all.slice(6..9));
    let all = all.try_into_mut().unwrap_err();
    assert_eq!((all.as_ptr(), &all[..]), (start, &b"hello world"[..]));
    let bytes = Bytes::from(all);
    let part = part.try_into_mut().unwrap_err();
    drop(bytes);
    let mut buffer = part.try_into_mut().unwrap();
    assert_eq!(buffer, b"wor"[..]);
    assert_eq!(buffer.capacity(), block - 6, "to the block's end");
    assert_eq!(pool.stats().buffers, 1);
    buffer.put_bytes(b'!', block - 9);
    assert_eq!(buffer.len(), buffer.capacity());
    assert_eq!(buffer.as_ptr() as usize - start as usize, 6);
    drop(buffer);
    assert_eq!(pool.stats().buffers, 0);
}

#[test]
fn the_other_half_of_a_split_keeps_a_buffer_from_becoming_writable() {
    let pool = pool();
    let mut rest = unique(&pool, 256, b"hello");
    let front = rest.split().freeze();
    assert!(!front.is_unique(), "`rest` can still be written");
    let front = front.try_into_mut().unwrap_err();
    drop(rest);
    let front = front.try_into_mut().unwrap();
    assert_eq!(front.capacity(), front.block_len());
}

#[test]
fn is_unique_counts_every_kind_of_handle() {
    let pool = pool();
    let all = shared(&pool, b"hello");
    assert!(all.is_unique());
    let clone = all.clone();
    assert!(!all.is_unique() && !clone.is_unique());
    let bytes = Bytes::from(clone);
    assert!(!all.is_unique());
    drop(bytes);
    assert!(all.is_unique());
    assert!(!DirectBytes::new().is_unique());
}
