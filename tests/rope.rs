//! `DirectRope`: reads as the bytes of its parts, whatever the parts are, and lets go of them as they are used up.

#[path = "support/config.rs"]
mod config;
#[path = "support/counting.rs"]
mod counting;
#[path = "support/panics.rs"]
mod panics;
#[path = "support/starved.rs"]
mod starved;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::io::{BufRead, IoSlice, Read};
use std::ops::Bound;

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use offheap::{DirectBytes, DirectRope, Pool};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use config::cases;
use counting::allocations;
use panics::{attempt, both};
use starved::starved;

const LIMIT: usize = 1 << 20;

fn pool() -> Pool {
    Pool::builder().limit(LIMIT).build().unwrap()
}

fn part(pool: &Pool, contents: &[u8]) -> DirectBytes {
    pool.try_copy_from_slice(contents).unwrap()
}

fn rope(pool: &Pool, parts: &[&str]) -> DirectRope {
    parts
        .iter()
        .map(|text| part(pool, text.as_bytes()))
        .collect()
}

fn hash(value: &impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    PushBack(Vec<u8>),
    PushFront(Vec<u8>),
    PushStatic(usize),
    PopBack,
    PopFront,
    Append(usize),
    SplitTo(usize),
    SplitOff(usize),
    Truncate(usize),
    Advance(usize),
    Slice(Bound<usize>, Bound<usize>),
    CopyToBytes(usize),
    CopyToSlice(usize),
    Get(u8),
    Read(usize),
    Contiguous,
    Clone,
    Clear,
    Drop,
}

fn at() -> impl Strategy<Value = usize> {
    prop_oneof![12 => 0..60_usize, 1 => Just(usize::MAX)]
}

fn bound() -> impl Strategy<Value = Bound<usize>> {
    prop_oneof![
        1 => Just(Bound::Unbounded),
        2 => at().prop_map(Bound::Included),
        2 => at().prop_map(Bound::Excluded),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let text = || vec(any::<u8>(), 0..20);
    prop_oneof![
        6 => text().prop_map(Op::PushBack),
        3 => text().prop_map(Op::PushFront),
        1 => (0..TEXT.len()).prop_map(Op::PushStatic),
        1 => Just(Op::PopBack),
        1 => Just(Op::PopFront),
        2 => any::<usize>().prop_map(Op::Append),
        3 => at().prop_map(Op::SplitTo),
        3 => at().prop_map(Op::SplitOff),
        1 => at().prop_map(Op::Truncate),
        3 => at().prop_map(Op::Advance),
        2 => (bound(), bound()).prop_map(|(start, end)| Op::Slice(start, end)),
        2 => at().prop_map(Op::CopyToBytes),
        1 => at().prop_map(Op::CopyToSlice),
        2 => any::<u8>().prop_map(Op::Get),
        1 => (0..40_usize).prop_map(Op::Read),
        1 => Just(Op::Contiguous),
        1 => Just(Op::Clone),
        1 => Just(Op::Clear),
        1 => Just(Op::Drop),
    ]
}

pub(crate) const TEXT: &[u8] = b"static memory";

/// Ours, and what it is to hold.
type Pair = (DirectRope, VecDeque<u8>);

fn check((ours, theirs): &Pair) {
    assert!(ours.parts().flatten().eq(theirs));
    assert_eq!((ours.len(), ours.remaining()), (theirs.len(), theirs.len()));
    assert_eq!(ours.is_empty(), theirs.is_empty());
    assert_eq!(ours.is_empty(), ours.chunk().is_empty());
    assert!(ours.parts().all(|part| !part.is_empty()));
    assert_eq!(ours.parts().len(), ours.part_count());
    let whole: Vec<u8> = theirs.iter().copied().collect();
    assert_eq!(ours, &whole);
    assert_eq!(whole, *ours);
    assert_eq!(format!("{ours:?}"), format!("{:?}", Bytes::from(whole)));
    for places in [0, 1, 3, 100] {
        let mut slices = vec![IoSlice::new(b"untouched"); places];
        let filled = ours.chunks_vectored(&mut slices);
        assert_eq!(filled, ours.part_count().min(places));
        for (slice, part) in slices.iter().zip(ours.parts()) {
            assert_eq!((slice.as_ptr(), slice.len()), (part.as_ptr(), part.len()));
        }
        assert!(slices[filled..]
            .iter()
            .all(|slice| **slice == *b"untouched"));
    }
}

fn get(buf: &mut impl Buf, kind: u8) -> u64 {
    match kind % 8 {
        0 => buf.get_u8().into(),
        1 => buf.get_u16_le().into(),
        2 => buf.get_u32().into(),
        3 => buf.get_u64_le(),
        4 => buf.get_u128() as u64,
        5 => buf.get_int(usize::from(kind) % 9) as u64,
        6 => buf.get_f64().to_bits(),
        _ => buf.try_get_u64().unwrap_or(7),
    }
}

fn apply(pool: &Pool, pairs: &mut Vec<Pair>, which: usize, op: Op) {
    if pairs.is_empty() {
        pairs.push(Pair::default());
    }
    let which = which % pairs.len();
    let (mut ours, mut theirs) = pairs.swap_remove(which);
    match op {
        Op::PushBack(text) => {
            ours.push_back(part(pool, &text));
            theirs.extend(text);
        }
        Op::PushFront(text) => {
            ours.push_front(part(pool, &text));
            text.into_iter()
                .rev()
                .for_each(|byte| theirs.push_front(byte));
        }
        Op::PushStatic(n) => {
            ours.push_back(DirectBytes::from_static(&TEXT[..n]));
            theirs.extend(&TEXT[..n]);
        }
        Op::PopBack => {
            let popped = ours.pop_back().unwrap_or_default();
            assert!(theirs
                .split_off(theirs.len() - popped.len())
                .iter()
                .eq(&popped));
        }
        Op::PopFront => {
            let popped = ours.pop_front().unwrap_or_default();
            assert!(theirs.drain(..popped.len()).eq(popped));
        }
        Op::Append(other) if !pairs.is_empty() => {
            let (a, mut b) = pairs.swap_remove(other % pairs.len());
            ours.append(a);
            theirs.append(&mut b);
        }
        Op::SplitTo(at) => {
            let split = both(
                || ours.split_to(at),
                || theirs.drain(..at).collect::<VecDeque<_>>(),
            );
            pairs.extend(split);
        }
        Op::SplitOff(at) => {
            pairs.extend(both(|| ours.split_off(at), || theirs.split_off(at)));
        }
        Op::Truncate(n) => {
            ours.truncate(n);
            theirs.truncate(n);
        }
        Op::Advance(n) => {
            both(|| ours.advance(n), || drop(theirs.drain(..n)));
        }
        Op::Slice(start, end) => {
            let whole: Vec<u8> = theirs.iter().copied().collect();
            let slices = both(
                || ours.slice((start, end)),
                || whole[(start, end)].iter().copied().collect::<VecDeque<_>>(),
            );
            pairs.extend(slices);
        }
        Op::CopyToBytes(n) => {
            let (at, in_one_part) = (ours.chunk().as_ptr(), n <= ours.chunk().len());
            if let Some((a, b)) = both(|| ours.copy_to_bytes(n), || theirs.copy_to_bytes(n)) {
                assert_eq!(a, b);
                assert!(a.is_empty() || !in_one_part || a.as_ptr() == at, "a copy");
            }
        }
        Op::CopyToSlice(n) => {
            let (mut a, mut b) = (vec![0; n % 100], vec![0; n % 100]);
            both(
                || ours.copy_to_slice(&mut a),
                || theirs.copy_to_slice(&mut b),
            );
            assert_eq!(a, b);
        }
        Op::Get(kind) => {
            if let Some((a, b)) = both(|| get(&mut ours, kind), || get(&mut theirs, kind)) {
                assert_eq!(a, b);
            }
        }
        Op::Read(n) => {
            let (mut a, mut b) = (vec![0; n], vec![0; n]);
            let read = ours.read(&mut a).unwrap();
            theirs.copy_to_slice(&mut b[..read]);
            assert_eq!((read, a), (n.min(read + ours.len()), b));
        }
        Op::Contiguous => {
            let whole = ours.try_to_contiguous(pool).unwrap();
            assert!(whole.iter().eq(&theirs));
            if ours.part_count() == 1 {
                assert_eq!(whole.as_ptr(), ours.chunk().as_ptr(), "a copy");
            }
        }
        Op::Clone => pairs.push((ours.clone(), theirs.clone())),
        Op::Clear => {
            ours.clear();
            theirs.clear();
        }
        Op::Drop => return,
        Op::Append(_) => {}
    }
    pairs.push((ours, theirs));
}

thread_local! {
    /// One pool for all cases: each leaves it empty.
    static POOL: (Pool, Runtime) = starved(Pool::builder().limit(LIMIT));
}

/// Applies operations, each to one of the ropes that are held, and compares.
pub(crate) fn run(ops: Vec<(usize, Op)>) {
    POOL.with(|(pool, _)| {
        let mut pairs = Vec::new();
        for (which, op) in ops {
            apply(pool, &mut pairs, which, op);
            pairs.iter().for_each(check);
            if let [.., (a, x), (b, y)] = &pairs[..] {
                assert_eq!(a.cmp(b), x.cmp(y));
                assert_eq!(a == b, x == y);
            }
        }
        pairs.clear();
        assert_eq!(pool.stats().buffers, 0);
    });
}

proptest! {
    #![proptest_config(cases(1))]

    #[test]
    fn reads_as_the_bytes_of_its_parts(ops in vec((any::<usize>(), op()), 1..60)) {
        run(ops);
    }

    #[test]
    fn compares_and_hashes_by_content(text in "[ab]{0,200}", other in "[ab]{0,3}", cuts in vec(0..200_usize, 0..9)) {
        POOL.with(|(pool, _)| {
            let whole = rope(pool, &[&text]);
            let mut cut = whole.clone();
            let mut parts = DirectRope::new();
            for n in cuts {
                parts.append(cut.split_to(n.min(cut.len())));
            }
            parts.append(cut);
            assert_eq!(parts, whole);
            assert_eq!(hash(&parts), hash(&whole));
            assert_eq!(HashMap::from([(whole, 1)]).get(&parts), Some(&1));

            let order = Some(text.cmp(&other));
            let bytes = Bytes::from(other.clone());
            let direct = part(pool, other.as_bytes());
            let unique = part(pool, other.as_bytes()).try_into_mut().unwrap_or_default();
            macro_rules! compares {
                ($($with:expr),+) => {$(
                    assert_eq!(parts.partial_cmp(&$with), order);
                    assert_eq!($with.partial_cmp(&parts), order.map(|order| order.reverse()));
                    assert_eq!(parts == $with, text == other);
                    assert_eq!($with == parts, text == other);
                )+};
            }
            compares!(
                *other.as_bytes(), *other.as_str(), other, other.as_bytes().to_vec(), bytes,
                BytesMut::from(other.as_str()), direct, unique
            );
            assert_eq!(parts == other.as_str(), text == other);
            assert_eq!(parts == other.as_bytes(), text == other);
            assert_eq!(parts.partial_cmp(&other.as_str()), order);
        });
    }
}

/// A hasher to which one long write and two short ones are different things.
#[derive(Default)]
struct Picky(u64);

impl Hasher for Picky {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = self.0.rotate_left(5) ^ hash(&bytes);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[test]
fn equal_ropes_hash_alike_with_any_hasher() {
    let pool = pool();
    let text: String = "0123456789".repeat(13);
    let picky = |rope: &DirectRope| BuildHasherDefault::<Picky>::default().hash_one(rope);
    let whole = rope(&pool, &[&text]);
    for cut in 0..text.len() {
        let (a, b) = text.split_at(cut);
        assert_eq!(picky(&rope(&pool, &[a, b])), picky(&whole));
    }
    assert_ne!(picky(&rope(&pool, &[&text[1..]])), picky(&whole));
}

#[test]
fn advancing_frees_parts_as_it_goes() {
    let pool = pool();
    let mut rope = rope(&pool, &["one", "two", "three"]);
    let buffers = || pool.stats().buffers;
    assert_eq!(buffers(), 3);
    rope.advance(2);
    assert_eq!(buffers(), 3);
    rope.advance(1);
    assert_eq!((buffers(), rope.chunk()), (2, &b"two"[..]));
    rope.advance(4);
    assert_eq!((buffers(), rope.chunk()), (1, &b"hree"[..]));
    let front = rope.split_to(2);
    assert_eq!(
        (front, &rope),
        ("hr".into_rope(&pool), &"ee".into_rope(&pool))
    );
    assert_eq!(rope.get_u16(), u16::from_be_bytes(*b"ee"));
    assert_eq!((buffers(), rope.part_count()), (0, 0));
    assert_eq!(attempt(|| rope.advance(1)), None);
}

trait IntoRope {
    fn into_rope(self, pool: &Pool) -> DirectRope;
}

impl IntoRope for &str {
    fn into_rope(self, pool: &Pool) -> DirectRope {
        DirectRope::from(part(pool, self.as_bytes()))
    }
}

#[test]
fn a_number_that_lies_across_parts() {
    let pool = pool();
    let mut rope: DirectRope = (1..=8).map(|byte| part(&pool, &[byte])).collect();
    assert_eq!(rope.part_count(), 8);
    assert_eq!(rope.clone().get_u64(), 0x0102_0304_0506_0708);
    assert_eq!(rope.get_u32_le(), 0x0403_0201);
    assert_eq!(pool.stats().buffers, 4);
}

#[test]
fn splitting_and_slicing_copy_nothing() {
    let pool = pool();
    let all = rope(&pool, &["hello ", "wonderful ", "world"]);
    let addresses: Vec<_> = all.parts().map(|part| part.as_ptr()).collect();
    let mut rest = all.clone();
    let front = rest.split_to(8);
    assert_eq!(
        (&front, &rest),
        (
            &rope(&pool, &["hello wo"]),
            &rope(&pool, &["nderful world"])
        )
    );
    let of = |rope: &DirectRope| rope.parts().map(|part| part.as_ptr()).collect::<Vec<_>>();
    assert_eq!(of(&front), addresses[..2]);
    assert_eq!(of(&rest), [addresses[1].wrapping_add(2), addresses[2]]);
    let middle = all.slice(6..=16);
    assert_eq!(of(&middle), addresses[1..]);
    assert_eq!(middle, "wonderful w");
    assert_eq!(all.slice(6..6).part_count(), 0);
    assert_eq!(
        all.block_len(),
        all.parts().map(DirectBytes::block_len).sum()
    );
}

#[test]
fn an_empty_part_is_no_part() {
    let pool = pool();
    let mut rope = DirectRope::new();
    rope.push_back(DirectBytes::new());
    rope.push_front(pool.try_reserve(100).unwrap().freeze());
    rope.extend([DirectBytes::new(), part(&pool, b"x"), DirectBytes::new()]);
    assert_eq!((rope.part_count(), rope.len()), (1, 1));
    assert_eq!(rope.pop_front(), Some(part(&pool, b"x")));
    assert_eq!(
        (rope.pop_back(), rope.pop_front(), rope.chunk()),
        (None, None, &b""[..])
    );
    assert_eq!(rope, DirectRope::default());
    assert_eq!(format!("{rope:?}"), "b\"\"");
}

#[tokio::test]
async fn becomes_contiguous_by_waiting() {
    let pool = Pool::builder().limit(16 << 10).build().unwrap();
    let parts = rope(&pool, &["hello ", "world"]);
    let hog = pool.try_reserve(12 << 10).unwrap();
    {
        let mut whole = std::pin::pin!(parts.to_contiguous(&pool));
        // Two small blocks have one page or two; the rest is taken.
        let _rest: Vec<_> = std::iter::from_fn(|| pool.try_reserve(256).ok()).collect();
        assert!(whole.as_mut().now_or_never().is_none());
        drop(hog);
        assert_eq!(whole.await.unwrap(), "hello world");
    }
    let one = parts.slice(..3).to_contiguous(&pool).await.unwrap();
    assert_eq!(
        one.as_ptr(),
        parts.chunk().as_ptr(),
        "one part needs no copy"
    );
    pool.close();
    assert!(parts.to_contiguous(&pool).await.is_err());
    assert_eq!(
        parts.slice(..6).to_contiguous(&pool).await.unwrap(),
        "hello "
    );
    assert!(DirectRope::new()
        .to_contiguous(&pool)
        .await
        .unwrap()
        .is_empty());
}

#[test]
fn read_line_by_line() {
    let pool = pool();
    let rope = rope(&pool, &["one\ntw", "o\nth", "r", "ee"]);
    let lines: Result<Vec<_>, _> = rope.lines().collect();
    assert_eq!(lines.unwrap(), ["one", "two", "three"]);
    assert_eq!(pool.stats().buffers, 0);
}

/// One `writev` for all parts, through a real socket.
#[tokio::test]
async fn is_written_by_vectored_writes() {
    let pool = pool();
    let (mut a, mut b) = tokio::net::UnixStream::pair().unwrap();
    let parts: Vec<_> = (0..50_u8).map(|i| part(&pool, &[i; 100])).collect();
    let mut rope: DirectRope = parts.into_iter().collect();
    let expected: Vec<u8> = rope.parts().flatten().copied().collect();
    let writes = async {
        let mut writes = 0;
        while rope.has_remaining() {
            a.write_buf(&mut rope).await.unwrap();
            writes += 1;
        }
        drop(a);
        writes
    };
    let mut received = Vec::new();
    let (writes, read) = tokio::join!(writes, b.read_to_end(&mut received));
    read.unwrap();
    assert_eq!(received, expected);
    assert!(writes < 10, "{writes} writes for 50 parts");
    assert_eq!(pool.stats().buffers, 0);
}

#[test]
fn bytes_are_never_on_the_heap() {
    let (pool, _runtime) = starved(Pool::builder().limit(LIMIT));
    let run = || {
        let mut rope = DirectRope::new();
        rope.push_back(part(&pool, &[1; 5000]));
        rope.push_back(part(&pool, &[2; 5000]));
        let front = rope.split_to(6000);
        rope.advance(100);
        assert_eq!(front.try_to_contiguous(&pool).unwrap().len(), 6000);
        assert_eq!(
            rope.to_contiguous(&pool)
                .now_or_never()
                .unwrap()
                .unwrap()
                .len(),
            3900
        );
        rope.copy_to_slice(&mut [0; 3900]);
    };
    run();
    // Two ropes with a list each, allocated and freed.
    assert_eq!(allocations(run).0, 4);
}
