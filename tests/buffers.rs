//! `DirectBytes` and `DirectBytesMut` beside `Bytes` and `BytesMut`: the same operations lead to the same contents, the same
//! answers and the same panics, and each way in which ours differ on purpose has a test of its own.

#[path = "support/config.rs"]
mod config;

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::io::Write as _;
use std::ops::Bound;
use std::panic::{catch_unwind, AssertUnwindSafe};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use offheap::{DirectBytes, DirectBytesMut, Pool};
use proptest::collection::vec;
use proptest::prelude::*;

use config::cases;

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

/// None where it panics.
fn attempt<T>(f: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(f)).ok()
}

/// Runs both; either both panic, or none.
fn both<T, U>(ours: impl FnOnce() -> T, theirs: impl FnOnce() -> U) -> Option<(T, U)> {
    let (ours, theirs) = (attempt(ours), attempt(theirs));
    assert_eq!(ours.is_some(), theirs.is_some(), "only one of them panics");
    ours.zip(theirs)
}

fn hash(value: &impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}

#[derive(Debug, Clone)]
enum Op {
    Reserve(usize, Vec<u8>),
    SplitTo(usize),
    SplitOff(usize),
    Split,
    Truncate(usize),
    Advance(usize),
    Clear,
    Resize(usize, u8),
    Extend(Vec<u8>),
    Put(u8, Vec<u8>),
    PutBytes(u8, usize),
    Write(Vec<u8>),
    Overwrite(u8),
    Get(u8, usize),
    CopyToBytes(usize),
    Freeze,
    Slice(Bound<usize>, Bound<usize>),
    SliceRef(usize, usize, usize),
    Clone,
    TryIntoMut,
    IntoBytes,
    Drop,
}

/// Mostly within a buffer, sometimes around its capacity, rarely absurd.
fn at() -> impl Strategy<Value = usize> {
    prop_oneof![
        12 => 0..40_usize,
        3 => 200..330_usize,
        1 => Just(usize::MAX),
    ]
}

fn bound() -> impl Strategy<Value = Bound<usize>> {
    prop_oneof![
        1 => Just(Bound::Unbounded),
        2 => at().prop_map(Bound::Included),
        2 => at().prop_map(Bound::Excluded),
    ]
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => vec(any::<u8>(), 0..40),
        1 => vec(any::<u8>(), 200..330),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1..400_usize, vec(any::<u8>(), 0..60)).prop_map(|(n, text)| Op::Reserve(n, text)),
        2 => at().prop_map(Op::SplitTo),
        2 => at().prop_map(Op::SplitOff),
        1 => Just(Op::Split),
        1 => at().prop_map(Op::Truncate),
        2 => at().prop_map(Op::Advance),
        1 => Just(Op::Clear),
        2 => (at(), any::<u8>()).prop_map(|(n, value)| Op::Resize(n, value)),
        2 => text().prop_map(Op::Extend),
        2 => (any::<u8>(), text()).prop_map(|(kind, text)| Op::Put(kind, text)),
        1 => (any::<u8>(), at()).prop_map(|(value, n)| Op::PutBytes(value, n)),
        1 => text().prop_map(Op::Write),
        1 => any::<u8>().prop_map(Op::Overwrite),
        2 => (any::<u8>(), at()).prop_map(|(kind, n)| Op::Get(kind, n)),
        1 => at().prop_map(Op::CopyToBytes),
        3 => Just(Op::Freeze),
        2 => (bound(), bound()).prop_map(|(start, end)| Op::Slice(start, end)),
        2 => (any::<usize>(), 0..40_usize, 0..40_usize).prop_map(|(i, a, b)| Op::SliceRef(i, a, b)),
        1 => Just(Op::Clone),
        2 => Just(Op::TryIntoMut),
        1 => Just(Op::IntoBytes),
        2 => Just(Op::Drop),
    ]
}

/// One of ours, and theirs.
#[derive(Debug)]
enum Pair {
    Unique(DirectBytesMut, BytesMut),
    Shared(DirectBytes, Bytes),
    /// Ours as a `Bytes`, and what it is to hold. It pins the block if it came from a `DirectBytes`.
    Foreign(Bytes, Bytes),
}

impl Pair {
    fn ours(&self) -> &[u8] {
        match self {
            Pair::Unique(ours, _) => ours,
            Pair::Shared(ours, _) => ours,
            Pair::Foreign(ours, _) => ours,
        }
    }

    fn theirs(&self) -> &[u8] {
        match self {
            Pair::Unique(_, theirs) => theirs,
            Pair::Shared(_, theirs) | Pair::Foreign(_, theirs) => theirs,
        }
    }

    fn check(&self) {
        assert_eq!(self.ours(), self.theirs());
        match self {
            Pair::Unique(ours, theirs) => {
                assert_eq!(ours.len(), theirs.len());
                assert_eq!(ours.is_empty(), theirs.is_empty());
                assert_eq!(ours.remaining(), theirs.remaining());
                assert_eq!(ours.chunk(), theirs.chunk());
                assert_eq!(ours.remaining_mut(), ours.capacity() - ours.len());
                assert_eq!(ours, theirs);
                assert_eq!(theirs, ours);
                assert_eq!(hash(ours), hash(theirs));
                assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
                assert_eq!(
                    format!("{ours:x} {ours:X}"),
                    format!("{theirs:x} {theirs:X}")
                );
            }
            Pair::Shared(ours, theirs) => {
                assert_eq!(ours.len(), theirs.len());
                assert_eq!(ours.is_empty(), theirs.is_empty());
                assert_eq!(ours.remaining(), theirs.remaining());
                assert_eq!(ours.chunk(), theirs.chunk());
                assert_eq!(ours, theirs);
                assert_eq!(theirs, ours);
                assert_eq!(hash(ours), hash(theirs));
                assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
                assert_eq!(
                    format!("{ours:x} {ours:X}"),
                    format!("{theirs:x} {theirs:X}")
                );
                assert!(ours.block_len() > 0 || ours.is_empty(), "it pins its block");
                assert_eq!(ours.is_empty(), ours.block_len() == 0, "empty pins nothing");
            }
            Pair::Foreign(..) => {}
        }
    }

    /// As the types of `bytes` compare among themselves.
    fn check_order(&self, other: &Pair) {
        let expected = self.theirs().cmp(other.theirs());
        match (self, other) {
            (Pair::Shared(a, _), Pair::Shared(b, theirs)) => {
                assert_eq!(a.cmp(b), expected);
                assert_eq!(a.partial_cmp(theirs), Some(expected));
                assert_eq!(a == b, expected.is_eq());
            }
            (Pair::Unique(a, _), Pair::Unique(b, theirs)) => {
                assert_eq!(a.cmp(b), expected);
                assert_eq!(a.partial_cmp(theirs), Some(expected));
                assert_eq!(a == b, expected.is_eq());
            }
            (Pair::Shared(a, _), Pair::Unique(b, _)) => {
                assert_eq!(a.partial_cmp(b), Some(expected));
                assert_eq!(b.partial_cmp(a), Some(expected.reverse()));
                assert_eq!(a == b, expected.is_eq());
            }
            _ => {}
        }
    }
}

/// What a `get` answers, as a number.
fn get(buf: &mut dyn Buf, kind: u8, n: usize) -> u64 {
    match kind % 12 {
        0 => buf.get_u8().into(),
        1 => buf.get_u16().into(),
        2 => buf.get_u32_le().into(),
        3 => buf.get_u64(),
        4 => buf.get_i64_le() as u64,
        5 => buf.get_u128() as u64,
        6 => buf.get_f32().to_bits().into(),
        7 => buf.get_uint(n % 9),
        8 => buf.get_i8() as u64,
        9 => {
            let mut copy = vec![0; n % 64];
            buf.copy_to_slice(&mut copy);
            hash(&copy)
        }
        10 => buf.try_get_u32().map_or(u64::MAX, Into::into),
        _ => {
            let mut copy = vec![0; n % 64];
            match buf.try_copy_to_slice(&mut copy) {
                Ok(()) => hash(&copy),
                Err(error) => error.requested as u64,
            }
        }
    }
}

/// How many bytes [`put`] writes.
fn put_len(kind: u8, text: &[u8]) -> usize {
    [1, 2, 4, 8, 16, 8, text.len(), text.len()][usize::from(kind % 8)]
}

fn put(buf: &mut impl BufMut, kind: u8, text: &[u8]) {
    let n = hash(&text);
    match kind % 8 {
        0 => buf.put_u8(n as u8),
        1 => buf.put_u16(n as u16),
        2 => buf.put_i32_le(n as i32),
        3 => buf.put_u64(n),
        4 => buf.put_u128(n.into()),
        5 => buf.put_f64(f64::from_bits(n)),
        6 => buf.put_slice(text),
        _ => buf.put(text.chain(&[][..])),
    }
}

struct Model {
    pool: Pool,
    pairs: Vec<Pair>,
}

impl Model {
    fn apply(&mut self, which: usize, op: Op) {
        if let Op::Reserve(n, text) = op {
            let mut ours = self.pool.try_reserve(n).unwrap();
            assert!(ours.is_empty() && ours.capacity() >= n);
            let mut theirs = BytesMut::with_capacity(ours.capacity());
            let fits = text.len().min(ours.capacity());
            ours.extend_from_slice(&text[..fits]);
            theirs.extend_from_slice(&text[..fits]);
            self.pairs.push(Pair::Unique(ours, theirs));
            return;
        }
        if self.pairs.is_empty() {
            return;
        }
        let which = which % self.pairs.len();
        if let (Pair::Shared(ours, theirs), &Op::SliceRef(other, a, b)) = (&self.pairs[which], &op)
        {
            let other = &self.pairs[other % self.pairs.len()];
            let len = other.ours().len();
            let (a, b) = (a.min(len), b.min(len));
            let (a, b) = (a.min(b), a.max(b));
            // A copy on the heap has another address than what `bytes` splits off.
            if !matches!(other, Pair::Foreign(..)) {
                let parts = both(
                    || ours.slice_ref(&other.ours()[a..b]),
                    || theirs.slice_ref(&other.theirs()[a..b]),
                );
                self.pairs
                    .extend(parts.map(|(ours, theirs)| Pair::Shared(ours, theirs)));
            }
            return;
        }
        let pair = self.pairs.swap_remove(which);
        let alone = self.is_alone(&pair);
        match pair {
            Pair::Unique(ours, theirs) => self.unique(ours, theirs, op),
            Pair::Shared(ours, theirs) => self.shared(ours, theirs, op, alone),
            Pair::Foreign(ours, theirs) => {
                if !matches!(op, Op::Drop) {
                    self.pairs.push(Pair::Foreign(ours, theirs));
                }
            }
        }
    }

    fn unique(&mut self, mut ours: DirectBytesMut, mut theirs: BytesMut, op: Op) {
        let room = ours.capacity() - ours.len();
        // Theirs grows where ours panics.
        let panics = |n: usize,
                      before: &[u8],
                      ours: &mut DirectBytesMut,
                      f: &dyn Fn(&mut DirectBytesMut)| {
            assert_eq!(attempt(|| f(ours)), None, "{n} bytes fit {room}");
            assert_eq!(&ours[..], before, "a panic writes nothing");
        };
        match op {
            Op::SplitTo(at) => {
                let parts = both(|| ours.split_to(at), || theirs.split_to(at));
                self.pairs
                    .extend(parts.map(|(ours, theirs)| Pair::Unique(ours, theirs)));
            }
            Op::SplitOff(at) => {
                let capacity = ours.capacity();
                // Their capacity need not be ours: they keep what they can not use.
                if at <= capacity && at > theirs.capacity() {
                    theirs.reserve(capacity - theirs.len());
                }
                if at > capacity && at <= theirs.capacity() {
                    assert_eq!(attempt(|| drop(ours.split_off(at))), None);
                } else if let Some((back, rest)) =
                    both(|| ours.split_off(at), || theirs.split_off(at))
                {
                    assert_eq!((ours.capacity(), back.capacity()), (at, capacity - at));
                    self.pairs.push(Pair::Unique(back, rest));
                }
            }
            Op::Split => {
                let capacity = ours.capacity();
                let (front, rest) = (ours.split(), theirs.split());
                assert_eq!(front.capacity(), front.len());
                assert_eq!(ours.capacity(), capacity - front.len());
                self.pairs.push(Pair::Unique(front, rest));
            }
            Op::Truncate(n) => {
                ours.truncate(n);
                theirs.truncate(n);
            }
            Op::Advance(n) => {
                let capacity = ours.capacity();
                if both(|| ours.advance(n), || theirs.advance(n)).is_some() {
                    assert_eq!(ours.capacity(), capacity - n);
                }
            }
            Op::Clear => {
                ours.clear();
                theirs.clear();
            }
            Op::Resize(n, value) if n <= ours.capacity() => {
                ours.resize(n, value);
                theirs.resize(n, value);
            }
            Op::Resize(n, value) => panics(n, &theirs, &mut ours, &|ours| ours.resize(n, value)),
            Op::Extend(text) if text.len() <= room => {
                ours.extend_from_slice(&text);
                theirs.extend_from_slice(&text);
            }
            Op::Extend(text) => panics(text.len(), &theirs, &mut ours, &|ours| {
                ours.extend_from_slice(&text);
            }),
            Op::Put(kind, text) if put_len(kind, &text) <= room => {
                put(&mut ours, kind, &text);
                put(&mut theirs, kind, &text);
            }
            Op::Put(kind, text) => panics(put_len(kind, &text), &theirs, &mut ours, &|ours| {
                put(ours, kind, &text);
            }),
            Op::PutBytes(value, n) if n <= room => {
                ours.put_bytes(value, n);
                theirs.put_bytes(value, n);
            }
            Op::PutBytes(value, n) => {
                panics(n, &theirs, &mut ours, &|ours| ours.put_bytes(value, n))
            }
            Op::Write(text) => {
                let fits = text.len().min(room);
                assert_eq!(ours.write(&text).unwrap(), fits);
                theirs.extend_from_slice(&text[..fits]);
            }
            Op::Overwrite(value) => {
                for byte in ours.iter_mut() {
                    *byte ^= value;
                }
                for byte in theirs.as_mut() {
                    *byte ^= value;
                }
            }
            Op::Get(kind, n) => {
                let (ours, theirs) = (&mut ours, &mut theirs);
                if let Some((a, b)) = both(|| get(ours, kind, n), || get(theirs, kind, n)) {
                    assert_eq!(a, b);
                }
            }
            Op::CopyToBytes(n) => {
                // The copy of ours does not pin the block, that of theirs does; only the contents count.
                let copies = both(|| ours.copy_to_bytes(n), || theirs.copy_to_bytes(n));
                if let Some((a, b)) = copies {
                    assert_eq!(a, b);
                }
            }
            Op::Freeze => {
                self.pairs
                    .push(Pair::Shared(ours.freeze(), theirs.freeze()));
                return;
            }
            Op::Drop => return,
            _ => {}
        }
        self.pairs.push(Pair::Unique(ours, theirs));
    }

    fn shared(&mut self, mut ours: DirectBytes, mut theirs: Bytes, op: Op, alone: Option<bool>) {
        match op {
            Op::SplitTo(at) => {
                let parts = both(|| ours.split_to(at), || theirs.split_to(at));
                self.pairs
                    .extend(parts.map(|(ours, theirs)| Pair::Shared(ours, theirs)));
            }
            Op::SplitOff(at) => {
                let parts = both(|| ours.split_off(at), || theirs.split_off(at));
                self.pairs
                    .extend(parts.map(|(ours, theirs)| Pair::Shared(ours, theirs)));
            }
            Op::Truncate(n) => {
                ours.truncate(n);
                theirs.truncate(n);
            }
            Op::Advance(n) => {
                both(|| ours.advance(n), || theirs.advance(n));
            }
            Op::Clear => {
                ours.clear();
                theirs.clear();
            }
            Op::Get(kind, n) => {
                let (ours, theirs) = (&mut ours, &mut theirs);
                if let Some((a, b)) = both(|| get(ours, kind, n), || get(theirs, kind, n)) {
                    assert_eq!(a, b);
                }
            }
            Op::CopyToBytes(n) => {
                let copies = both(|| ours.copy_to_bytes(n), || theirs.copy_to_bytes(n));
                self.pairs
                    .extend(copies.map(|(ours, theirs)| Pair::Foreign(ours, theirs)));
            }
            Op::Slice(start, end) => {
                let parts = both(|| ours.slice((start, end)), || theirs.slice((start, end)));
                self.pairs
                    .extend(parts.map(|(ours, theirs)| Pair::Shared(ours, theirs)));
            }
            Op::Clone => self.pairs.push(Pair::Shared(ours.clone(), theirs.clone())),
            Op::IntoBytes => {
                let at = ours.as_ptr();
                let bytes = Bytes::from(ours);
                assert!(bytes.is_empty() || bytes.as_ptr() == at, "a copy");
                self.pairs.push(Pair::Foreign(bytes, theirs));
                return;
            }
            Op::TryIntoMut => {
                if let Some(alone) = alone {
                    assert_eq!(ours.is_unique(), alone);
                    assert!(ours.clone().try_into_mut().is_err(), "two handles");
                }
                let (at, block) = (ours.as_ptr(), ours.block_len());
                match ours.try_into_mut() {
                    Ok(buffer) => {
                        assert_ne!(alone, Some(false));
                        assert_eq!((buffer.as_ptr(), buffer.block_len()), (at, block));
                        assert!(buffer.capacity() >= buffer.len());
                        // Whether theirs is unique, and its capacity, is its own business.
                        let mut copy = BytesMut::with_capacity(buffer.capacity());
                        copy.extend_from_slice(&theirs);
                        self.pairs.push(Pair::Unique(buffer, copy));
                    }
                    Err(same) => {
                        assert_ne!(alone, Some(true));
                        assert_eq!(same.as_ptr(), at);
                        self.pairs.push(Pair::Shared(same, theirs));
                    }
                }
                return;
            }
            Op::Drop => return,
            _ => {}
        }
        self.pairs.push(Pair::Shared(ours, theirs));
    }

    /// Whether no other pair has a handle to the same block, as far as the tests can tell: blocks do not tell their address,
    /// so only a pool with one live block, or as many as there are handles, is clear about it.
    fn is_alone(&self, pair: &Pair) -> Option<bool> {
        let Pair::Shared(ours, _) = pair else {
            return None;
        };
        if ours.is_empty() {
            return Some(false);
        }
        let blocks = self.pool.stats().buffers as usize;
        let others = self
            .pairs
            .iter()
            .filter(|pair| match pair {
                Pair::Unique(ours, _) => ours.block_len() > 0,
                Pair::Shared(ours, _) => ours.block_len() > 0,
                Pair::Foreign(ours, _) => !ours.is_empty(),
            })
            .count();
        assert!(blocks <= others + 1, "a block without a handle");
        if blocks == 1 {
            Some(others == 0)
        } else {
            (blocks == others + 1).then_some(true)
        }
    }
}

proptest! {
    #![proptest_config(cases(1))]

    #[test]
    fn same_operations_lead_to_the_same(ops in vec((any::<usize>(), op()), 1..60)) {
        let mut model = Model { pool: pool(), pairs: Vec::new() };
        for (which, op) in ops {
            model.apply(which, op);
            for pair in &model.pairs {
                prop_assert_eq!(pair.ours(), pair.theirs());
            }
            if let [.., a, b] = &model.pairs[..] {
                a.check_order(b);
            }
            if let Some(pair) = model.pairs.last() {
                pair.check();
            }
        }
        model.pairs.iter().for_each(Pair::check);
        model.pairs.clear();
        prop_assert_eq!(model.pool.stats().buffers, 0);
        prop_assert_eq!(model.pool.stats().live, 0);
    }

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
