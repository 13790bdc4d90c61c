//! The edge cases that `bytes` is tested for, each tried on ours and, where it can be, on theirs beside it.

#[path = "support/panics.rs"]
mod panics;

use std::fmt::Write as _;
use std::io::{BufRead, Read};
use std::sync::{Arc, Barrier};
use std::thread;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use offheap::{DirectBytes, DirectBytesMut, Pool};

use panics::{attempt, both};

const LONG: &[u8] = b"mary had a little lamb, little lamb, little lamb";

fn pool() -> Pool {
    Pool::builder().limit(1 << 20).build().unwrap()
}

fn unique(pool: &Pool, contents: &[u8]) -> DirectBytesMut {
    let mut buffer = pool.try_reserve(contents.len()).unwrap();
    buffer.extend_from_slice(contents);
    buffer
}

fn shared(pool: &Pool, contents: &[u8]) -> DirectBytes {
    unique(pool, contents).freeze()
}

#[test]
fn from_text() {
    let pool = pool();
    assert_eq!(shared(&pool, b"hello"), "hello");
    assert_eq!(shared(&pool, b"hello"), b"hello"[..]);
    assert_eq!(DirectBytes::from("hello"), DirectBytes::from(&b"hello"[..]));
    assert!(shared(&pool, b"").is_empty());
    assert_eq!(unique(&pool, b"a")[..], *b"a");
}

#[test]
fn formats() {
    let pool = pool();
    assert_eq!(format!("{:?}", shared(&pool, b"abcdefg")), "b\"abcdefg\"");
    assert_eq!(
        format!("{:?}", unique(&pool, b"\x00\"\\\n\xfe")),
        "b\"\\0\\\"\\\\\\n\\xfe\""
    );
    assert_eq!(format!("{:x}", shared(&pool, b"\x00\xab\xff")), "00abff");
    assert_eq!(format!("{:X}", shared(&pool, b"\x00\xab\xff")), "00ABFF");
    let mut buffer = pool.try_reserve(256).unwrap();
    let capacity = buffer.capacity();
    write!(buffer, "{}{:?}", "x".repeat(capacity - 3), 123).unwrap();
    assert_eq!(buffer.len(), capacity);
    assert!(write!(buffer, "4").is_err());
}

#[test]
fn slices_within_bounds_and_not_without() {
    let pool = pool();
    let (ours, theirs) = (shared(&pool, b"hello world"), Bytes::from("hello world"));
    assert_eq!(ours[1..=1], *b"e");
    for begin in 0..14 {
        for end in 0..14 {
            if let Some((a, b)) = both(|| ours.slice(begin..end), || theirs.slice(begin..end)) {
                assert_eq!(a, b);
            }
            both(|| ours.slice(begin..=end), || theirs.slice(begin..=end));
        }
        both(|| ours.slice(begin..), || theirs.slice(begin..));
        both(|| ours.slice(..begin), || theirs.slice(..begin));
    }
    both(|| ours.slice(..=usize::MAX), || theirs.slice(..=usize::MAX));
}

#[test]
fn splits_within_bounds_and_not_without() {
    let pool = pool();
    for at in 0..14 {
        let (mut ours, mut theirs) = (shared(&pool, b"hello world"), Bytes::from("hello world"));
        if let Some((a, b)) = both(|| ours.split_off(at), || theirs.split_off(at)) {
            assert_eq!(a, b);
            assert_eq!(ours, theirs);
        }
        let (mut ours, mut theirs) = (shared(&pool, b"hello world"), Bytes::from("hello world"));
        if let Some((a, b)) = both(|| ours.split_to(at), || theirs.split_to(at)) {
            assert_eq!(a, b);
            assert_eq!(ours, theirs);
        }
        let (mut ours, mut theirs) = (unique(&pool, b"hello world"), BytesMut::from("hello world"));
        if let Some((a, b)) = both(|| ours.split_to(at), || theirs.split_to(at)) {
            assert_eq!(a, b);
            assert_eq!(ours, theirs);
        }
    }
    let mut fresh = pool.try_reserve(1024).unwrap();
    assert!(attempt(|| fresh.split_to(128)).is_none(), "not written yet");
    let other = fresh.split_off(128);
    assert_eq!((fresh.len(), fresh.capacity()), (0, 128));
    assert_eq!((other.len(), other.capacity()), (0, 1024 - 128));
    assert!(attempt(|| fresh.split_off(129)).is_none());
}

#[test]
fn splits_in_a_loop() {
    let pool = pool();
    let text = b"abcdefghijklmnopqrstuvwxyz";
    for at in 0..=text.len() {
        let mut back = unique(&pool, text);
        let front = back.split_to(at);
        assert_eq!([&front[..], &back[..]].concat(), text);
        let mut front = unique(&pool, text);
        let back = front.split_off(at);
        assert_eq!([&front[..], &back[..]].concat(), text);
        assert_eq!(front.capacity() + back.capacity(), front.block_len());
        let mut back = shared(&pool, text);
        let front = back.split_to(at);
        assert_eq!([&front[..], &back[..]].concat(), text);
    }
    assert_eq!(pool.stats().buffers, 0);
}

#[test]
fn freezes_whatever_was_done_before() {
    let pool = pool();
    let text = &b"abcdefgh"[..];
    let freeze = |f: fn(&mut DirectBytesMut)| {
        let mut buffer = unique(&pool, text);
        f(&mut buffer);
        let frozen = buffer.freeze();
        let clone = frozen.clone();
        assert_eq!(frozen, clone);
        frozen
    };
    assert_eq!(freeze(|_| ()), text);
    assert_eq!(freeze(|b| b.advance(1)), text[1..]);
    assert_eq!(freeze(|b| drop(b.split_to(1))), text[1..]);
    assert_eq!(freeze(|b| b.truncate(7)), text[..7]);
    assert_eq!(freeze(|b| drop(b.split_off(7))), text[..7]);
    assert_eq!(freeze(|b| b.clear()), b""[..]);
    assert_eq!(freeze(|b| b.resize(10, b'!')), "abcdefgh!!");
}

#[test]
fn extends_in_every_way() {
    let pool = pool();
    let mut buffer = pool.try_reserve(1024).unwrap();
    buffer.extend(LONG);
    buffer.extend(LONG.iter().copied());
    buffer.extend([Bytes::from_static(LONG)]);
    buffer.extend([DirectBytes::from_static(LONG), DirectBytes::new()]);
    buffer.extend_from_slice(&LONG[..3]);
    buffer.extend_from_slice(&LONG[3..]);
    assert_eq!(buffer, LONG.repeat(5));

    // Neither more nor fewer bytes than a size hint says are a problem.
    struct Hint<I>(I, usize);
    impl<I: Iterator<Item = u8>> Iterator for Hint<I> {
        type Item = u8;

        fn next(&mut self) -> Option<u8> {
            self.0.next()
        }

        fn size_hint(&self) -> (usize, Option<usize>) {
            (self.1, None)
        }
    }
    buffer.clear();
    buffer.extend(Hint(LONG.iter().copied(), 5));
    buffer.extend(Hint(LONG.iter().copied(), usize::MAX));
    assert_eq!(buffer, LONG.repeat(2));
}

#[test]
fn extends_from_within() {
    let pool = pool();
    let mut buffer = unique(&pool, &LONG[..23]);
    buffer.extend_from_within(10..22);
    buffer.extend_from_within(22..35);
    assert_eq!(buffer, LONG);
    assert!(attempt(|| buffer.extend_from_within(48..=48)).is_none());
    assert!(attempt(|| buffer.extend_from_within(49..)).is_none());
    buffer.extend_from_within(48..);
    buffer.extend_from_within(0..=0);
    assert_eq!(buffer.last(), Some(&b'm'));
    buffer.resize(buffer.capacity(), 0);
    assert!(
        attempt(|| buffer.extend_from_within(..1)).is_none(),
        "no room"
    );
}

#[test]
fn advancing_takes_from_the_capacity() {
    let pool = pool();
    for len in 0..=256 {
        let mut buffer = pool.try_reserve(256).unwrap();
        buffer.resize(len, 42);
        for cnt in (0..=len).step_by(7) {
            let mut buffer = unique(&pool, &buffer);
            let capacity = buffer.capacity();
            buffer.advance(cnt);
            assert_eq!((buffer.remaining(), buffer.len()), (len - cnt, len - cnt));
            assert_eq!(buffer.capacity(), capacity - cnt);
        }
    }
    let mut a = unique(&pool, b"hello world");
    assert!(attempt(|| a.advance(20)).is_none());
    // SAFETY: above the capacity, for which it panics.
    assert!(attempt(|| unsafe { a.advance_mut(a.capacity()) }).is_none());
    let mut a = shared(&pool, b"hello world");
    assert!(attempt(|| a.advance(12)).is_none());
    assert_eq!(a, "hello world");
}

#[test]
fn writes_through_chunks() {
    let pool = pool();
    let mut buffer = pool.try_reserve(1024).unwrap();
    let capacity = buffer.capacity();
    let start = buffer.chunk_mut().as_mut_ptr();
    assert_eq!(buffer.chunk_mut().len(), capacity);
    buffer.chunk_mut()[..10].copy_from_slice(b"0123456789");
    // SAFETY: just written.
    unsafe { buffer.advance_mut(10) };
    assert_eq!(buffer.chunk_mut().len(), capacity - 10);
    assert_eq!(buffer.chunk_mut().as_mut_ptr(), start.wrapping_add(10));
    assert_eq!(buffer, "0123456789");
    buffer.put_bytes(b'x', capacity - 10);
    assert_eq!(buffer.chunk_mut().len(), 0, "it does not grow");
}

#[test]
fn joins_what_was_split() {
    let pool = pool();
    let mut buf = unique(&pool, b"aaabbbcccddd");
    let capacity = buf.capacity();
    let mut one = buf.split_off(3);
    let two = one.split_off(3);
    let two = buf.try_unsplit(two).unwrap_err();
    assert!(buf.try_unsplit(one).is_ok());
    assert!(buf.try_unsplit(two).is_ok());
    assert_eq!((&buf[..], buf.capacity()), (&b"aaabbbcccddd"[..], capacity));

    // What is empty joins anything, and keeps its capacity where there is some.
    assert!(buf.unsplit(DirectBytesMut::new()).is_ok());
    let empty = buf.split_off(buf.len());
    assert!(buf.unsplit(empty).is_ok());
    assert_eq!(buf.capacity(), capacity);
    let mut rest = buf.split_off(buf.len());
    rest.extend_from_slice(b"eee");
    assert!(buf.unsplit(rest).is_ok());
    assert_eq!(
        (&buf[..], buf.capacity()),
        (&b"aaabbbcccdddeee"[..], capacity)
    );

    // An empty buffer becomes the other.
    let start = buf.as_ptr();
    let mut nothing = DirectBytesMut::new();
    assert!(nothing.unsplit(buf).is_ok());
    assert_eq!((nothing.as_ptr(), &nothing[12..]), (start, &b"eee"[..]));
    assert_eq!(pool.stats().buffers, 1);
}

#[test]
fn joins_strangers_by_copying_where_they_fit() {
    let pool = pool();
    let mut buf = unique(&pool, b"aaaabbbb");
    assert!(buf.unsplit(unique(&pool, b"ccccdddd")).is_ok());
    assert_eq!(buf, "aaaabbbbccccdddd");
    assert_eq!(pool.stats().buffers, 1);
    // Parts of one block, but not neighbours.
    let mut middle = buf.split_off(4);
    let last = middle.split_off(4);
    let last = buf.unsplit(last).unwrap_err();
    assert_eq!((&buf[..], &last[..]), (&b"aaaa"[..], &b"ccccdddd"[..]));
    assert!(buf.unsplit(middle).is_ok());
    assert!(buf.unsplit(last).is_ok());
    assert_eq!(buf, "aaaabbbbccccdddd");
    // Neighbouring blocks are no neighbours.
    let full: Vec<_> = (0..8_u8)
        .map(|i| {
            let mut full = pool.try_reserve(4096).unwrap();
            full.put_bytes(i, full.capacity());
            full
        })
        .collect();
    for mut a in full {
        for mut b in [
            pool.try_reserve(4096).unwrap(),
            pool.try_reserve(4096).unwrap(),
        ] {
            b.put_bytes(9, 1);
            assert!(a.unsplit(b).is_err());
        }
    }
}

#[test]
fn finds_the_handle_to_a_slice() {
    let pool = pool();
    let (ours, theirs) = (shared(&pool, b"012345678"), Bytes::from("012345678"));
    for (begin, end) in [(0, 0), (0, 3), (2, 6), (7, 9), (9, 9)] {
        assert_eq!(
            ours.slice_ref(&ours[begin..end]),
            theirs.slice_ref(&theirs[begin..end])
        );
    }
    let elsewhere = b"012345";
    both(
        || ours.slice_ref(&elsewhere[..4]),
        || theirs.slice_ref(&elsewhere[..4]),
    );
    assert!(ours.slice_ref(&elsewhere[..0]).is_empty());
    assert!(DirectBytes::new().slice_ref(&ours[3..3]).is_empty());
    let part = ours.slice(2..4);
    assert!(attempt(|| part.slice_ref(&ours[1..3])).is_none());
    assert!(attempt(|| part.slice_ref(&ours[3..5])).is_none());
    assert_eq!(part.slice_ref(&ours[2..4]), "23");
}

/// Empty parts have the address at which they were cut.
#[test]
fn empty_parts_keep_their_address() {
    let pool = pool();
    let mut buf = shared(&pool, &[0; 1024]);
    let (start, end) = (buf.as_ptr(), buf.as_ptr().wrapping_add(1024));
    assert_eq!(buf.slice(1024..).as_ptr(), end);
    assert_eq!(buf.slice(..0).as_ptr(), start);
    assert_eq!(buf.split_off(1024).as_ptr(), end);
    assert_eq!(buf.split_to(0).as_ptr(), start);
    let mut all = buf.clone();
    assert_eq!(all.split_off(0).as_ptr(), start);
    assert_eq!(all.as_ptr(), start);
    let _ = buf.split_to(1024);
    assert_eq!(buf.as_ptr(), end);

    let mut buf = unique(&pool, &[0; 1024]);
    let (start, end) = (buf.as_ptr(), buf.as_ptr().wrapping_add(1024));
    assert_eq!(buf.split_off(1024).as_ptr(), end);
    assert_eq!(buf.split_to(0).as_ptr(), start);
    let all = buf.split_to(1024);
    assert_eq!((all.as_ptr(), buf.as_ptr()), (start, end));
}

#[test]
fn becomes_a_vector() {
    let pool = pool();
    let mut buffer = unique(&pool, b"abcdewe23helloworld");
    let back = buffer.split_off(9);
    assert_eq!(Vec::from(back), b"helloworld");
    assert_eq!(Vec::from(buffer.freeze()), b"abcdewe23");
    assert_eq!(pool.stats().buffers, 0);
}

#[test]
fn iterates() {
    let pool = pool();
    let ours = shared(&pool, b"hello world");
    let iter = ours.clone().into_iter();
    assert_eq!((iter.size_hint(), iter.len()), ((11, Some(11)), 11));
    drop(iter);
    assert_eq!(DirectBytes::new().into_iter().len(), 0);
    assert!(ours.clone().into_iter().eq(*b"hello world"));
    assert!(unique(&pool, b"hello").into_iter().eq(*b"hello"));
    assert!((&ours).into_iter().eq(b"hello world"));
    assert!((&unique(&pool, b"hello")).into_iter().eq(b"hello"));
    let mut left = 0;
    for _ in ours {
        left += 1;
    }
    assert_eq!((left, pool.stats().buffers), (11, 0));
}

#[test]
fn reads_through_the_adapters_of_buf() {
    let pool = pool();
    let (a, b) = (shared(&pool, b"hello "), shared(&pool, b"world"));
    let mut chain = Buf::chain(a.clone(), b.clone());
    let mut slices = [std::io::IoSlice::new(&[]); 3];
    assert_eq!(chain.chunks_vectored(&mut slices), 2);
    assert_eq!(chain.copy_to_bytes(11), "hello world");
    let mut take = Buf::take(a.clone(), 4);
    assert!(attempt(|| take.copy_to_bytes(5)).is_none());
    assert_eq!(take.copy_to_bytes(4), "hell");
    let mut text = String::new();
    Buf::chain(a.clone(), b.clone())
        .reader()
        .read_line(&mut text)
        .unwrap();
    assert_eq!(text, "hello world");
    let mut limited = BufMut::limit(pool.try_reserve(256).unwrap(), 4);
    assert!(attempt(|| limited.put_slice(b"hello")).is_none());
    limited.put_slice(b"hell");
    assert_eq!(
        (limited.remaining_mut(), &limited.get_ref()[..]),
        (0, &b"hell"[..])
    );
    std::io::Write::write_all(&mut unique(&pool, b"").writer(), b"").unwrap();
    let boxed: Box<dyn Buf> = Box::new(a);
    assert_eq!(boxed.remaining(), 6);
}

/// `Read` and `BufRead`, which `bytes` has by way of `Buf::reader`.
#[test]
fn reads_as_files_do() {
    let pool = pool();
    let mut ours = shared(&pool, b"one\ntwo");
    let mut line = String::new();
    assert_eq!(ours.read_line(&mut line).unwrap(), 4);
    let mut rest = Vec::new();
    assert_eq!(Read::read_to_end(&mut ours, &mut rest).unwrap(), 3);
    assert_eq!(
        (line.as_str(), &rest[..], ours.read(&mut [0; 4]).unwrap()),
        ("one\n", &b"two"[..], 0)
    );
    assert_eq!(pool.stats().buffers, 0);
    let mut buffer = unique(&pool, b"abc");
    buffer.read_exact(&mut [0; 2]).unwrap();
    assert_eq!(buffer, "c");
    assert!(attempt(|| buffer.consume(2)).is_none());
}

/// References to whatever ours compare with, too.
#[test]
fn compares_with_references_too() {
    fn same<A: PartialEq<B>, B>(a: A, b: B) {
        assert!(a == b);
    }

    let pool = pool();
    let ours = || shared(&pool, b"text");
    let other = || unique(&pool, b"text");
    same(ours(), &b"text"[..]);
    same(ours(), "text");
    same(ours(), &String::from("text"));
    same(ours(), &Bytes::from("text"));
    same(ours(), &ours());
    same(ours(), &other());
    same(other(), &b"text".to_vec());
    same(other(), &ours());
    same(&b"text"[..], ours());
    same("text", ours());
    same("text", other());
    assert_eq!(ours().partial_cmp(&"tezt"), Some(std::cmp::Ordering::Less));
}

#[test]
fn static_memory_is_like_theirs() {
    let pool = pool();
    let (mut ours, mut theirs) = (DirectBytes::from_static(b"ab"), Bytes::from_static(b"ab"));
    assert_eq!(
        (ours.is_unique(), ours.block_len()),
        (theirs.is_unique(), 0)
    );
    let (a, b) = (ours.split_off(1), theirs.split_off(1));
    assert_eq!(
        (&a, &ours),
        (&DirectBytes::from("b"), &DirectBytes::from("a"))
    );
    assert_eq!((&b[..], &theirs[..]), (&a[..], &ours[..]));
    let at = a.as_ptr();
    let a = a.try_into_mut().unwrap_err();
    assert_eq!(Bytes::from(a).as_ptr(), at, "no copy");
    assert_eq!(ours.clone().detach(), "a");
    assert_eq!(ours.slice_or_detach(.., 0), "a");
    assert_eq!(pool.stats().reserved_total, 0);
}

#[test]
fn typed_writes_fit_or_fail_as_a_whole() {
    let pool = pool();
    let mut buffer = pool.try_reserve(256).unwrap();
    buffer.put_bytes(0, buffer.capacity() - 3);
    let before = buffer.len();
    assert_eq!(buffer.try_put_u32(1).unwrap_err().available, 3);
    assert_eq!(buffer.try_put_u128_le(1).unwrap_err().requested, 16);
    assert_eq!(
        buffer.try_put_bytes(1, usize::MAX).unwrap_err().requested,
        usize::MAX
    );
    let mut source = Buf::chain(&b"ab"[..], &b"cd"[..]);
    assert!(buffer.try_put(&mut source).is_err());
    assert_eq!((buffer.len(), source.remaining()), (before, 4));
    buffer.try_put_uint(0x0102_0304, 3).unwrap();
    assert!(
        buffer.ends_with(&[2, 3, 4])
            && buffer.try_put_u8(1).is_err()
            && buffer.try_put_i8(1).is_err()
    );
    assert!(buffer.try_put_bytes(1, 0).is_ok());
    buffer.clear();
    assert!(
        attempt(|| buffer.try_put_uint(1, 9)).is_none(),
        "as `put_uint` does"
    );
    assert!(attempt(|| buffer.try_put_int_le(1, 9)).is_none());
}

/// The first clones of one buffer, by many threads at once.
#[test]
fn clones_from_many_threads() {
    const THREADS: usize = 8;
    let pool = pool();
    for i in 0..200_u8 {
        let buf = Arc::new(shared(&pool, &[i; 256]));
        let barrier = Arc::new(Barrier::new(THREADS));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (barrier, buf) = (barrier.clone(), buf.clone());
                thread::spawn(move || {
                    barrier.wait();
                    let clone = DirectBytes::clone(&buf);
                    let part = clone.slice(10..20);
                    drop(clone);
                    part
                })
            })
            .collect();
        let parts: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        assert!(parts.iter().all(|part| part[..] == [i; 10]));
        drop(parts);
        assert!(buf.is_unique());
        assert_eq!(buf[..], [i; 256]);
    }
    assert_eq!(pool.stats().buffers, 0);
}
