//! Invariant 11, no memory unsafety from safe code: no two live handles overlap mutably, and what a handle reads is what was
//! written through it, whatever happens to other handles, to recycled blocks, on other threads, or in a caller's code that
//! panics or lies half-way.

#[path = "support/config.rs"]
mod config;

use std::fmt::{self, Write as _};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Barrier, Mutex};
use std::thread;

use bytes::{Buf, BufMut, Bytes};
use offheap::{DirectBytes, DirectBytesMut, Pool};
use proptest::collection::vec;
use proptest::prelude::*;

use config::cases;

/// So small that most blocks are soon used for the second time.
fn pool() -> Pool {
    Pool::builder().limit(128 << 10).build().unwrap()
}

/// Bytes of their own for each seed.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next)
        .take(len.div_ceil(8))
        .flatten()
        .collect();
    bytes.truncate(len);
    bytes
}

#[derive(Debug)]
enum Handle {
    Unique(DirectBytesMut),
    Shared(DirectBytes),
    Foreign(Bytes),
}

/// A handle, and what it was stamped with.
#[derive(Debug)]
struct Live {
    handle: Handle,
    stamp: Vec<u8>,
}

impl Live {
    fn unique(buffer: DirectBytesMut, stamp: &[u8]) -> Live {
        Live {
            handle: Handle::Unique(buffer),
            stamp: stamp.to_vec(),
        }
    }

    fn shared(buffer: DirectBytes, stamp: &[u8]) -> Live {
        Live {
            handle: Handle::Shared(buffer),
            stamp: stamp.to_vec(),
        }
    }

    fn bytes(&self) -> &[u8] {
        match &self.handle {
            Handle::Unique(buffer) => buffer,
            Handle::Shared(buffer) => buffer,
            Handle::Foreign(buffer) => buffer,
        }
    }

    /// The addresses that it may read or write, and whether it may write.
    fn range(&self) -> (Range<usize>, bool) {
        let start = self.bytes().as_ptr() as usize;
        match &self.handle {
            Handle::Unique(buffer) => (start..start + buffer.capacity(), true),
            _ => (start..start + self.bytes().len(), false),
        }
    }

    fn check(&self) {
        assert!(self.bytes() == self.stamp, "another one's bytes");
    }
}

fn check_all(live: &[Live]) {
    live.iter().for_each(Live::check);
    let mut ranges: Vec<_> = live.iter().map(Live::range).collect();
    ranges.retain(|(range, _)| !range.is_empty());
    ranges.sort_by_key(|(range, _)| (range.start, range.end));
    // The furthest end so far, of those that may write and of all.
    let (mut written, mut seen) = (0, 0);
    for (range, writes) in ranges {
        assert!(range.start >= written, "another one may write here");
        assert!(!writes || range.start >= seen, "others read here");
        seen = seen.max(range.end);
        if writes {
            written = written.max(range.end);
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Reserve(usize),
    /// Writes everything anew, the spare capacity too.
    Stamp(usize),
    SplitTo(usize),
    SplitOff(usize),
    Advance(usize),
    Truncate(usize),
    Resize(usize),
    Freeze,
    Slice(usize, usize),
    SliceRef(usize, usize),
    Clone,
    TryIntoMut,
    IntoBytes,
    Drop,
    /// Leaves it to other threads, and takes what one of them left.
    Exchange,
}

fn op() -> impl Strategy<Value = Op> {
    let at = any::<usize>;
    prop_oneof![
        4 => prop_oneof![4 => 1..2000_usize, 1 => 1..40_000_usize].prop_map(Op::Reserve),
        3 => at().prop_map(Op::Stamp),
        2 => at().prop_map(Op::SplitTo),
        2 => at().prop_map(Op::SplitOff),
        1 => at().prop_map(Op::Advance),
        1 => at().prop_map(Op::Truncate),
        1 => at().prop_map(Op::Resize),
        3 => Just(Op::Freeze),
        2 => (at(), at()).prop_map(|(a, b)| Op::Slice(a, b)),
        1 => (at(), at()).prop_map(|(a, b)| Op::SliceRef(a, b)),
        2 => Just(Op::Clone),
        4 => Just(Op::TryIntoMut),
        1 => Just(Op::IntoBytes),
        4 => Just(Op::Drop),
        3 => Just(Op::Exchange),
    ]
}

type Step = (usize, u64, Op);

fn steps(n: usize) -> impl Strategy<Value = Vec<Step>> {
    vec((any::<usize>(), any::<u64>(), op()), n / 2..n)
}

fn between(a: usize, b: usize, len: usize) -> Range<usize> {
    let (a, b) = (a % (len + 1), b % (len + 1));
    a.min(b)..a.max(b)
}

/// Writes `len` bytes of a pattern, and scribbles over all the rest that this buffer may write.
fn stamp(mut buffer: DirectBytesMut, seed: u64, len: usize) -> Live {
    let bytes = pattern(seed, len.min(buffer.capacity()));
    buffer.clear();
    buffer
        .spare_capacity_mut()
        .fill(MaybeUninit::new(seed as u8));
    buffer.put_slice(&bytes);
    Live {
        handle: Handle::Unique(buffer),
        stamp: bytes,
    }
}

fn apply(pool: &Pool, live: &mut Vec<Live>, exchange: &Mutex<Vec<Live>>, (which, seed, op): Step) {
    if let Op::Reserve(n) = op {
        if let Ok(buffer) = pool.try_reserve(n) {
            assert!(buffer.is_empty(), "bytes that nobody wrote");
            let len = seed as usize % (buffer.capacity() + 1);
            live.push(stamp(buffer, seed, len));
        }
        return;
    }
    if live.is_empty() {
        live.extend(exchange.lock().unwrap().pop());
        return;
    }
    let which = which % live.len();
    let mut one = live.swap_remove(which);
    let len = one.stamp.len();
    match (one.handle, op) {
        (_, Op::Drop) => return,
        (handle, Op::Exchange) => {
            one.handle = handle;
            let mut exchange = exchange.lock().unwrap();
            exchange.push(one);
            let other = seed as usize % exchange.len();
            live.push(exchange.swap_remove(other));
            return;
        }
        (Handle::Unique(buffer), Op::Stamp(n)) => {
            let len = n % (buffer.capacity() + 1);
            live.push(stamp(buffer, seed, len));
            return;
        }
        (Handle::Unique(mut buffer), Op::SplitTo(at)) => {
            let at = at % (len + 1);
            live.push(Live::unique(buffer.split_to(at), &one.stamp[..at]));
            one.stamp.drain(..at);
            one.handle = Handle::Unique(buffer);
        }
        (Handle::Unique(mut buffer), Op::SplitOff(at)) => {
            let at = at % (buffer.capacity() + 1);
            let back = buffer.split_off(at);
            live.push(Live::unique(back, &one.stamp[at.min(len)..]));
            one.stamp.truncate(at);
            one.handle = Handle::Unique(buffer);
        }
        (Handle::Unique(mut buffer), Op::Advance(n)) => {
            let n = n % (len + 1);
            buffer.advance(n);
            one.stamp.drain(..n);
            one.handle = Handle::Unique(buffer);
        }
        (Handle::Unique(mut buffer), Op::Truncate(n)) => {
            let n = n % (len + 1);
            buffer.truncate(n);
            one.stamp.truncate(n);
            one.handle = Handle::Unique(buffer);
        }
        (Handle::Unique(mut buffer), Op::Resize(n)) => {
            let n = n % (buffer.capacity() + 1);
            buffer.resize(n, seed as u8);
            one.stamp.resize(n, seed as u8);
            one.handle = Handle::Unique(buffer);
        }
        (Handle::Unique(buffer), Op::Freeze) => one.handle = Handle::Shared(buffer.freeze()),
        (Handle::Shared(mut buffer), Op::SplitTo(at)) => {
            let at = at % (len + 1);
            live.push(Live::shared(buffer.split_to(at), &one.stamp[..at]));
            one.stamp.drain(..at);
            one.handle = Handle::Shared(buffer);
        }
        (Handle::Shared(mut buffer), Op::SplitOff(at)) => {
            let at = at % (len + 1);
            live.push(Live::shared(buffer.split_off(at), &one.stamp[at..]));
            one.stamp.truncate(at);
            one.handle = Handle::Shared(buffer);
        }
        (Handle::Shared(mut buffer), Op::Advance(n)) => {
            let n = n % (len + 1);
            buffer.advance(n);
            one.stamp.drain(..n);
            one.handle = Handle::Shared(buffer);
        }
        (Handle::Shared(mut buffer), Op::Truncate(n)) => {
            let n = n % (len + 1);
            buffer.truncate(n);
            one.stamp.truncate(n);
            one.handle = Handle::Shared(buffer);
        }
        (Handle::Shared(buffer), Op::Slice(a, b)) => {
            let range = between(a, b, len);
            live.push(Live::shared(buffer.slice(range.clone()), &one.stamp[range]));
            one.handle = Handle::Shared(buffer);
        }
        (Handle::Shared(buffer), Op::SliceRef(a, b)) => {
            let range = between(a, b, len);
            live.push(Live::shared(
                buffer.slice_ref(&buffer[range.clone()]),
                &one.stamp[range],
            ));
            one.handle = Handle::Shared(buffer);
        }
        (Handle::Shared(buffer), Op::Clone) => {
            live.push(Live::shared(buffer.clone(), &one.stamp));
            one.handle = Handle::Shared(buffer);
        }
        (Handle::Shared(buffer), Op::TryIntoMut) => match buffer.try_into_mut() {
            Ok(buffer) => {
                assert!(buffer[..] == one.stamp, "another one's bytes");
                live.push(stamp(buffer, seed, len));
                return;
            }
            Err(buffer) => one.handle = Handle::Shared(buffer),
        },
        (Handle::Shared(buffer), Op::IntoBytes) => one.handle = Handle::Foreign(buffer.into()),
        (Handle::Foreign(buffer), Op::Clone) => {
            live.push(Live {
                handle: Handle::Foreign(buffer.clone()),
                stamp: one.stamp.clone(),
            });
            one.handle = Handle::Foreign(buffer);
        }
        (Handle::Foreign(buffer), Op::Slice(a, b)) => {
            let range = between(a, b, len);
            live.push(Live {
                handle: Handle::Foreign(buffer.slice(range.clone())),
                stamp: one.stamp[range].to_vec(),
            });
            one.handle = Handle::Foreign(buffer);
        }
        (handle, _) => one.handle = handle,
    }
    live.push(one);
}

proptest! {
    #![proptest_config(cases(2))]

    #[test]
    fn handles_never_overlap_or_change(steps in steps(80)) {
        let pool = pool();
        let exchange = Mutex::default();
        let mut live = Vec::new();
        for step in steps {
            apply(&pool, &mut live, &exchange, step);
            check_all(&live);
        }
        live.append(&mut exchange.into_inner().unwrap());
        check_all(&live);
        drop(live);
        prop_assert_eq!(pool.stats().buffers, 0);
    }
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn handles_that_travel_between_threads_never_overlap_or_change(
        threads in vec(steps(120), 4),
    ) {
        let pool = pool();
        let exchange = Mutex::default();
        let start = Barrier::new(threads.len());
        let run = |steps: Vec<Step>| {
            let mut live = Vec::new();
            start.wait();
            for step in steps {
                apply(&pool, &mut live, &exchange, step);
                live.iter().for_each(Live::check);
            }
            live
        };
        let mut live: Vec<Live> = thread::scope(|scope| {
            let threads: Vec<_> = threads
                .into_iter()
                .map(|steps| scope.spawn(|| run(steps)))
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        live.append(&mut exchange.into_inner().unwrap());
        check_all(&live);
        drop(live);
        prop_assert_eq!(pool.stats().buffers, 0);
    }

    /// Clones of one buffer are dropped on other threads while the last one tries to become writable: it does so only when
    /// no one can read it any more.
    #[test]
    fn a_buffer_becomes_writable_only_when_no_one_reads_it(seed in any::<u64>(), len in 1..600_usize) {
        let pool = pool();
        let bytes = pattern(seed, len);
        let mut mine = pool.try_copy_from_slice(&bytes).unwrap();
        let start = Barrier::new(4);
        thread::scope(|scope| {
            for clone in [mine.clone(), mine.slice(len / 2..), mine.clone()] {
                let (bytes, start) = (&bytes, &start);
                scope.spawn(move || {
                    start.wait();
                    for _ in 0..20 {
                        let copy = clone.clone();
                        assert!(bytes.ends_with(&copy), "written while it is shared");
                    }
                });
            }
            start.wait();
            loop {
                match mine.try_into_mut() {
                    Ok(mut buffer) => {
                        assert!(buffer[..] == bytes);
                        buffer.fill(!bytes[0]);
                        break;
                    }
                    Err(same) => mine = same,
                }
                thread::yield_now();
            }
        });
        prop_assert_eq!(pool.stats().buffers, 0);
    }
}

#[test]
fn recycled_blocks_do_not_show_through_old_handles() {
    let pool = pool();
    let bytes = pattern(1, 1000);
    let all = pool.try_copy_from_slice(&bytes).unwrap();
    let kept = all.slice(100..200);
    let foreign = Bytes::from(all.slice(300..400));
    let mut emptied = all.clone();
    emptied.clear();
    drop(all);
    // All the memory there is, used several times.
    for round in 2..6_u8 {
        let mut others = Vec::new();
        while let Ok(mut other) = pool.try_reserve(1000) {
            assert!(other.is_empty());
            other.put_bytes(round, other.capacity());
            others.push(other);
        }
        assert!(others.len() > 32);
        assert_eq!(kept, bytes[100..200]);
        assert_eq!(foreign, bytes[300..400]);
        assert!(emptied.is_empty());
    }
}

#[test]
fn what_the_last_user_wrote_is_not_readable() {
    let pool = pool();
    let mut first = pool.try_reserve(1000).unwrap();
    let at = first.as_ptr();
    first.put_bytes(b's', first.capacity());
    drop(first);
    let mut second = pool.try_reserve(1000).unwrap();
    assert_eq!(
        second.as_ptr(),
        at,
        "not the same block: the test shows nothing"
    );
    assert_eq!(second, b""[..]);
    assert!(second.split_to(0).is_empty() && second.split().is_empty());
    assert!(second.split_off(500).is_empty());
    second.truncate(usize::MAX);
    assert!(second.is_empty());
    assert!(catch_unwind(AssertUnwindSafe(|| second.advance(1))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| second.split_to(1))).is_err());
    second.resize(500, 0);
    assert!(second.iter().all(|&byte| byte == 0));
    assert_eq!(second.freeze(), [0; 500][..]);
}

#[test]
fn an_iterator_that_panics_leaves_the_buffer_sound() {
    let pool = pool();
    let mut buffer = pool.try_reserve(1000).unwrap();
    buffer.put_slice(b"hello");
    let broken = (0..9_u8).inspect(|&i| assert!(i < 7, "broken"));
    assert!(catch_unwind(AssertUnwindSafe(|| buffer.extend(broken))).is_err());
    assert_eq!(buffer, b"hello\x00\x01\x02\x03\x04\x05\x06"[..]);
    buffer.extend(b" world");
    assert!(buffer.ends_with(b"\x06 world"));
    let endless = std::iter::repeat(b'x');
    assert!(catch_unwind(AssertUnwindSafe(|| buffer.extend(endless))).is_err());
    assert_eq!(buffer.len(), buffer.capacity());
    drop(buffer);
    assert_eq!(pool.stats().buffers, 0);
}

#[test]
fn a_text_that_panics_leaves_the_buffer_sound() {
    struct Broken;

    impl fmt::Display for Broken {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("half")?;
            panic!("broken");
        }
    }

    let pool = pool();
    let mut buffer = pool.try_reserve(256).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| write!(buffer, "{Broken}"))).is_err());
    assert_eq!(buffer, b"half"[..]);
}

/// `Buf` is a safe trait: it may lie.
#[test]
fn a_source_that_lies_about_its_length_can_not_write_past_the_capacity() {
    struct Liar {
        says: usize,
        gives: Vec<u8>,
    }

    impl Buf for Liar {
        fn remaining(&self) -> usize {
            self.says
        }

        fn chunk(&self) -> &[u8] {
            &self.gives
        }

        fn advance(&mut self, cnt: usize) {
            self.says = self.says.saturating_sub(cnt);
        }
    }

    let pool = pool();
    let mut front = pool.try_reserve(1000).unwrap();
    let mut back = front.split_off(100);
    back.put_bytes(b'b', back.capacity());
    for says in [1, 99, 100] {
        let gives = vec![b'f'; 5000];
        let put = || front.put(Liar { says, gives });
        // Whether it panics is its own business.
        let _ = catch_unwind(AssertUnwindSafe(put));
        assert!(front.len() <= 100);
        assert!(front.iter().all(|&byte| byte == b'f'));
        front.clear();
    }
    assert!(back.iter().all(|&byte| byte == b'b'));
}
