//! `DirectBytes` and `DirectBytesMut` beside `Bytes` and `BytesMut`: random sequences of operations, applied to both, lead to the same
//! contents, the same answers and the same panics. What ours do on purpose in another way (they never grow, and empty shared
//! buffers pin nothing) is computed from a book of who holds which block, kept beside them.
//!
//! The number of sequences is that of `PROPTEST_CASES`.

#![allow(clippy::type_complexity, clippy::collapsible_match)]

#[path = "support/config.rs"]
mod config;
#[path = "support/panics.rs"]
mod panics;
#[path = "support/starved.rs"]
mod starved;

use std::fmt::Write as _;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::io::{Read, Write};
use std::ops::Bound;
use std::rc::Rc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use offheap::{DirectBytes, DirectBytesMut, Pool};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use config::cases;
use panics::{attempt, both};
use starved::starved;

fn hash(value: &impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Reserve(usize, Vec<u8>),
    Static(usize),
    SplitTo(usize),
    SplitOff(usize),
    Split,
    Unsplit(usize, bool),
    TryReclaim(usize),
    TryGrow(usize),
    Truncate(usize),
    Advance(usize),
    Clear,
    Resize(usize, u8),
    SetLen(usize, u8),
    Extend(u8, Vec<u8>),
    ExtendFromWithin(Bound<usize>, Bound<usize>),
    Put(u8, Vec<u8>),
    PutBytes(u8, usize),
    TryPut(u8, Vec<u8>),
    Write(Vec<u8>),
    WriteText(String),
    Overwrite(u8),
    Get(u8, usize),
    Read(usize),
    CopyToBytes(usize),
    Freeze,
    Slice(Bound<usize>, Bound<usize>),
    SliceRef(usize, usize, usize),
    SliceOrDetach(Bound<usize>, Bound<usize>, usize),
    Clone,
    TryIntoMut,
    IntoBytes,
    IntoVec,
    IntoIter(usize),
    Detach,
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
        5 => (1..400_usize, vec(any::<u8>(), 0..60)).prop_map(|(n, text)| Op::Reserve(n, text)),
        1 => (0..TEXT.len()).prop_map(Op::Static),
        3 => at().prop_map(Op::SplitTo),
        3 => at().prop_map(Op::SplitOff),
        2 => Just(Op::Split),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(other, only)| Op::Unsplit(other, only)),
        3 => at().prop_map(Op::TryReclaim),
        1 => at().prop_map(Op::TryGrow),
        2 => at().prop_map(Op::Truncate),
        3 => at().prop_map(Op::Advance),
        1 => Just(Op::Clear),
        2 => (at(), any::<u8>()).prop_map(|(n, value)| Op::Resize(n, value)),
        1 => (at(), any::<u8>()).prop_map(|(n, value)| Op::SetLen(n, value)),
        3 => (any::<u8>(), text()).prop_map(|(kind, text)| Op::Extend(kind, text)),
        1 => (bound(), bound()).prop_map(|(start, end)| Op::ExtendFromWithin(start, end)),
        3 => (any::<u8>(), text()).prop_map(|(kind, text)| Op::Put(kind, text)),
        1 => (any::<u8>(), at()).prop_map(|(value, n)| Op::PutBytes(value, n)),
        2 => (any::<u8>(), text()).prop_map(|(kind, text)| Op::TryPut(kind, text)),
        1 => text().prop_map(Op::Write),
        1 => "[a-zäß]{0,9}".prop_map(Op::WriteText),
        1 => any::<u8>().prop_map(Op::Overwrite),
        3 => (any::<u8>(), at()).prop_map(|(kind, n)| Op::Get(kind, n)),
        1 => (0..50_usize).prop_map(Op::Read),
        2 => at().prop_map(Op::CopyToBytes),
        5 => Just(Op::Freeze),
        3 => (bound(), bound()).prop_map(|(start, end)| Op::Slice(start, end)),
        2 => (any::<usize>(), 0..40_usize, 0..40_usize).prop_map(|(i, a, b)| Op::SliceRef(i, a, b)),
        1 => (bound(), bound(), 0..40_usize).prop_map(|(a, b, ratio)| Op::SliceOrDetach(a, b, ratio)),
        2 => Just(Op::Clone),
        3 => Just(Op::TryIntoMut),
        1 => Just(Op::IntoBytes),
        1 => Just(Op::IntoVec),
        1 => (0..9_usize).prop_map(Op::IntoIter),
        1 => Just(Op::Detach),
        3 => Just(Op::Drop),
    ]
}

pub(crate) const TEXT: &[u8] = b"static memory";

/// A block that is held: where it starts, and its size. As many `Rc`s as there ought to be handles to it.
#[derive(Debug)]
struct Block {
    start: usize,
    size: usize,
}

/// One of ours, and theirs.
#[derive(Debug)]
enum Pair {
    Unique(DirectBytesMut, BytesMut),
    Shared(DirectBytes, Bytes),
    /// Ours as a `Bytes`, and what it is to hold.
    Foreign(Bytes, Bytes),
}

#[derive(Debug)]
struct Held {
    pair: Pair,
    block: Option<Rc<Block>>,
}

impl Held {
    fn ours(&self) -> &[u8] {
        match &self.pair {
            Pair::Unique(ours, _) => ours,
            Pair::Shared(ours, _) => ours,
            Pair::Foreign(ours, _) => ours,
        }
    }

    fn theirs(&self) -> &[u8] {
        match &self.pair {
            Pair::Unique(_, theirs) => theirs,
            Pair::Shared(_, theirs) | Pair::Foreign(_, theirs) => theirs,
        }
    }

    fn is_alone(&self) -> bool {
        self.block
            .as_ref()
            .is_some_and(|block| Rc::strong_count(block) == 1)
    }

    fn check(&self) {
        assert_eq!(self.ours(), self.theirs());
        let size = self.block.as_ref().map_or(0, |block| block.size);
        macro_rules! same {
            ($ours:expr, $theirs:expr) => {{
                let (ours, theirs) = ($ours, $theirs);
                assert_eq!(ours.len(), theirs.len());
                assert_eq!(ours.is_empty(), theirs.is_empty());
                assert_eq!(ours.remaining(), theirs.remaining());
                assert_eq!(ours.has_remaining(), theirs.has_remaining());
                assert_eq!(ours.chunk(), theirs.chunk());
                assert_eq!(ours, theirs);
                assert_eq!(theirs, ours);
                assert_eq!(hash(ours), hash(theirs));
                assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
                assert_eq!(
                    format!("{ours:x} {ours:X}"),
                    format!("{theirs:x} {theirs:X}")
                );
                assert!(ours.into_iter().eq(theirs));
                assert_eq!(ours.block_len(), size);
            }};
        }
        match &self.pair {
            Pair::Unique(ours, theirs) => {
                same!(ours, theirs);
                assert_eq!(ours.remaining_mut(), ours.capacity() - ours.len());
                assert!(ours.capacity() <= size);
            }
            Pair::Shared(ours, theirs) => {
                same!(ours, theirs);
                assert_eq!(ours.is_unique(), self.is_alone());
                assert!(!ours.is_empty() || size == 0, "empty pins nothing");
            }
            Pair::Foreign(..) => {}
        }
    }

    /// As the types of `bytes` compare among themselves.
    fn check_order(&self, other: &Held) {
        let expected = self.theirs().cmp(other.theirs());
        match (&self.pair, &other.pair) {
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
    match kind % 24 {
        0 => buf.get_u8().into(),
        1 => buf.get_u16().into(),
        2 => buf.get_u32_le().into(),
        3 => buf.get_u64(),
        4 => buf.get_i64_le() as u64,
        5 => buf.get_u128() as u64,
        6 => buf.get_f32().to_bits().into(),
        7 => buf.get_uint(n % 10),
        8 => buf.get_i8() as u64,
        9 => {
            let mut copy = vec![0; n % 64];
            buf.copy_to_slice(&mut copy);
            hash(&copy)
        }
        10 => buf.try_get_u32().map_or(u64::MAX, Into::into),
        11 => buf.get_i16_le() as u64,
        12 => buf.get_i128_ne() as u64,
        13 => buf.get_f64_le().to_bits(),
        14 => buf.get_int_le(n % 10) as u64,
        15 => buf.get_int(n % 10) as u64,
        16 => buf.get_u16_ne().into(),
        17 => buf.get_uint_ne(n % 10),
        18 => buf.try_get_i16_le().map_or(u64::MAX, |n| n as u64),
        19 => buf.try_get_u128().map_or(u64::MAX, |n| n as u64),
        20 => buf.try_get_int(n % 9).map_or(u64::MAX, |n| n as u64),
        21 => buf.try_get_f64_ne().map_or(u64::MAX, f64::to_bits),
        22 => buf.get_i32().into_u64(),
        _ => {
            let mut copy = vec![0; n % 64];
            match buf.try_copy_to_slice(&mut copy) {
                Ok(()) => hash(&copy),
                Err(error) => (error.requested * 1000 + error.available) as u64,
            }
        }
    }
}

trait IntoU64 {
    fn into_u64(self) -> u64;
}

impl IntoU64 for i32 {
    fn into_u64(self) -> u64 {
        self as u64
    }
}

const PUTS: u8 = 22;

/// How many bytes [`put`] writes.
fn put_len(kind: u8, text: &[u8]) -> usize {
    let low = text.len() % 9;
    match kind % PUTS {
        0 | 1 => 1,
        2..=5 => 2,
        6..=9 => 4,
        10..=13 => 8,
        14..=17 => 16,
        18 | 19 => low,
        _ => text.len(),
    }
}

fn put(buf: &mut impl BufMut, kind: u8, text: &[u8]) {
    let n = hash(&text);
    let low = text.len() % 9;
    match kind % PUTS {
        0 => buf.put_u8(n as u8),
        1 => buf.put_i8(n as i8),
        2 => buf.put_u16(n as u16),
        3 => buf.put_i16_le(n as i16),
        4 => buf.put_u16_ne(n as u16),
        5 => buf.put_u16_le(n as u16),
        6 => buf.put_u32(n as u32),
        7 => buf.put_i32_le(n as i32),
        8 => buf.put_f32(f32::from_bits(n as u32)),
        9 => buf.put_f32_le(f32::from_bits(n as u32)),
        10 => buf.put_u64(n),
        11 => buf.put_i64_le(n as i64),
        12 => buf.put_f64(f64::from_bits(n)),
        13 => buf.put_f64_ne(f64::from_bits(n)),
        14 => buf.put_u128(n.into()),
        15 => buf.put_i128_le(n.into()),
        16 => buf.put_u128_ne(n.into()),
        17 => buf.put_i128(n.into()),
        18 => buf.put_uint(n, low),
        19 => buf.put_int_le(n as i64, low),
        20 => buf.put_slice(text),
        _ => buf.put(Buf::chain(text, &[][..])),
    }
}

/// The same as [`put`], by the methods that answer with an error.
fn try_put(buf: &mut DirectBytesMut, kind: u8, text: &[u8]) -> Result<(), offheap::CapacityError> {
    let n = hash(&text);
    let low = text.len() % 9;
    match kind % PUTS {
        0 => buf.try_put_u8(n as u8),
        1 => buf.try_put_i8(n as i8),
        2 => buf.try_put_u16(n as u16),
        3 => buf.try_put_i16_le(n as i16),
        4 => buf.try_put_u16_ne(n as u16),
        5 => buf.try_put_u16_le(n as u16),
        6 => buf.try_put_u32(n as u32),
        7 => buf.try_put_i32_le(n as i32),
        8 => buf.try_put_f32(f32::from_bits(n as u32)),
        9 => buf.try_put_f32_le(f32::from_bits(n as u32)),
        10 => buf.try_put_u64(n),
        11 => buf.try_put_i64_le(n as i64),
        12 => buf.try_put_f64(f64::from_bits(n)),
        13 => buf.try_put_f64_ne(f64::from_bits(n)),
        14 => buf.try_put_u128(n.into()),
        15 => buf.try_put_i128_le(n.into()),
        16 => buf.try_put_u128_ne(n.into()),
        17 => buf.try_put_i128(n.into()),
        18 => buf.try_put_uint(n, low),
        19 => buf.try_put_int_le(n as i64, low),
        20 => buf.try_put_slice(text),
        _ => buf.try_put(&mut Buf::chain(text, &[][..])),
    }
}

struct Model<'a> {
    pool: &'a Pool,
    held: Vec<Held>,
}

impl Model<'_> {
    fn hold(&mut self, pair: Pair, block: Option<Rc<Block>>) {
        self.held.push(Held { pair, block });
    }

    fn hold_unique(&mut self, ours: DirectBytesMut, theirs: BytesMut, block: Option<Rc<Block>>) {
        self.hold(Pair::Unique(ours, theirs), block);
    }

    /// An empty shared buffer pins nothing.
    fn hold_shared(&mut self, ours: DirectBytes, theirs: Bytes, block: Option<Rc<Block>>) {
        let block = block.filter(|_| !ours.is_empty());
        self.hold(Pair::Shared(ours, theirs), block);
    }

    fn hold_foreign(&mut self, ours: Bytes, theirs: Bytes, block: Option<Rc<Block>>) {
        let block = block.filter(|_| !ours.is_empty());
        self.hold(Pair::Foreign(ours, theirs), block);
    }

    fn reserve(&mut self, n: usize, text: &[u8]) {
        let mut ours = self.pool.try_reserve(n).unwrap();
        assert!(ours.is_empty() && ours.capacity() >= n);
        let mut theirs = BytesMut::with_capacity(ours.capacity());
        let fits = text.len().min(ours.capacity());
        ours.extend_from_slice(&text[..fits]);
        theirs.extend_from_slice(&text[..fits]);
        let block = block_of(&ours);
        self.hold_unique(ours, theirs, block);
    }

    fn apply(&mut self, which: usize, op: Op) {
        match op {
            Op::Reserve(n, text) => return self.reserve(n, &text),
            Op::Static(n) => {
                let (ours, theirs) = (
                    DirectBytes::from_static(&TEXT[..n]),
                    Bytes::from_static(&TEXT[..n]),
                );
                return self.hold_shared(ours, theirs, None);
            }
            _ if self.held.is_empty() => return,
            _ => {}
        }
        let which = which % self.held.len();
        if let Op::SliceRef(other, a, b) = op {
            return self.slice_ref(which, other % self.held.len(), a, b);
        }
        let Held { pair, block } = self.held.swap_remove(which);
        match pair {
            Pair::Unique(ours, theirs) => self.unique(ours, theirs, block, op),
            Pair::Shared(ours, theirs) => self.shared(ours, theirs, block, op),
            Pair::Foreign(ours, theirs) => {
                if !matches!(op, Op::Drop) {
                    self.hold_foreign(ours, theirs, block);
                }
            }
        }
    }

    fn slice_ref(&mut self, which: usize, other: usize, a: usize, b: usize) {
        let Pair::Shared(ours, theirs) = &self.held[which].pair else {
            return;
        };
        let from = &self.held[other];
        // A copy on the heap, and static memory that stands for two, have other addresses than what `bytes` splits off.
        if matches!(from.pair, Pair::Foreign(..)) {
            return;
        }
        let (a, b) = (a.min(from.ours().len()), b.min(from.ours().len()));
        let (a, b) = (a.min(b), a.max(b));
        let parts = both(
            || ours.slice_ref(&from.ours()[a..b]),
            || theirs.slice_ref(&from.theirs()[a..b]),
        );
        if let Some((ours, theirs)) = parts {
            let block = self.held[which].block.clone();
            self.hold_shared(ours, theirs, block);
        }
    }

    fn unique(
        &mut self,
        mut ours: DirectBytesMut,
        mut theirs: BytesMut,
        mut block: Option<Rc<Block>>,
        op: Op,
    ) {
        let (len, capacity) = (ours.len(), ours.capacity());
        let room = capacity - len;
        let at_most = |n: usize| n <= room;
        // Theirs grows where ours panics.
        let before = theirs.to_vec();
        let panics = |ours: &mut DirectBytesMut, f: &dyn Fn(&mut DirectBytesMut)| {
            assert_eq!(attempt(|| f(ours)), None, "there is no room");
            assert_eq!(
                (&ours[..], ours.capacity()),
                (&before[..], capacity),
                "a panic writes nothing"
            );
        };
        match op {
            Op::SplitTo(at) => {
                if let Some((front, theirs)) = both(|| ours.split_to(at), || theirs.split_to(at)) {
                    assert_eq!((front.capacity(), ours.capacity()), (at, capacity - at));
                    self.hold_unique(front, theirs, block.clone());
                }
            }
            Op::SplitOff(at) => {
                // Their capacity need not be ours: they keep what they can not use.
                if at <= capacity && at > theirs.capacity() {
                    theirs.reserve(capacity - len);
                }
                if at > capacity && at <= theirs.capacity() {
                    panics(&mut ours, &|ours| drop(ours.split_off(at)));
                } else if let Some((back, rest)) =
                    both(|| ours.split_off(at), || theirs.split_off(at))
                {
                    assert_eq!((ours.capacity(), back.capacity()), (at, capacity - at));
                    self.hold_unique(back, rest, block.clone());
                }
            }
            Op::Split => {
                let (front, rest) = (ours.split(), theirs.split());
                assert_eq!((front.capacity(), ours.capacity()), (len, room));
                self.hold_unique(front, rest, block.clone());
            }
            Op::Unsplit(other, only_neighbours) => {
                return self.unsplit(ours, theirs, block, other, only_neighbours)
            }
            Op::TryReclaim(additional) => {
                let expected = at_most(additional)
                    || block.as_ref().is_some_and(|block| {
                        let before = ours.as_ptr() as usize - block.start;
                        let fits = |space| len.checked_add(additional).is_some_and(|n| n <= space);
                        let may_move = before >= len && fits(block.size);
                        Rc::strong_count(block) == 1 && (fits(block.size - before) || may_move)
                    });
                assert_eq!(ours.try_reclaim(additional), expected);
                assert!(ours.capacity() >= capacity);
                assert!(!expected || ours.capacity() - len >= additional);
            }
            Op::TryGrow(additional) => {
                let alone = block
                    .as_ref()
                    .is_some_and(|block| Rc::strong_count(block) == 1);
                match ours.try_grow(additional) {
                    Ok(()) => {
                        assert!(ours.capacity() - ours.len() >= additional);
                        let size = block.as_ref().map_or(0, |block| block.size);
                        let in_place = at_most(additional) || alone && len + additional <= size;
                        if !in_place {
                            block = block_of(&ours);
                        }
                        assert_eq!(ours.block_len(), block.as_ref().map_or(0, |b| b.size));
                        theirs.reserve(additional);
                    }
                    Err(_) => assert!(block.is_none() || additional > LIMIT / 2),
                }
            }
            Op::Truncate(n) => {
                ours.truncate(n);
                theirs.truncate(n);
            }
            Op::Advance(n) => {
                let advanced = both(|| ours.advance(n), || theirs.advance(n)).is_some();
                assert_eq!(ours.capacity(), capacity - if advanced { n } else { 0 });
            }
            Op::Clear => {
                ours.clear();
                theirs.clear();
            }
            Op::Resize(n, value) if n <= capacity => {
                ours.resize(n, value);
                theirs.resize(n, value);
            }
            Op::Resize(n, value) => panics(&mut ours, &|ours| ours.resize(n, value)),
            Op::SetLen(n, value) => {
                let n = n.min(capacity);
                ours.spare_capacity_mut().fill_with(|| value.into_uninit());
                // SAFETY: not above the capacity, and all of it was written.
                unsafe { ours.set_len(n) };
                theirs.resize(n, value);
            }
            Op::Extend(kind, text) => {
                let extend = |ours: &mut DirectBytesMut| match kind % 4 {
                    0 => ours.extend_from_slice(&text),
                    1 => ours.extend(&text),
                    2 => ours.extend(text.clone()),
                    _ => ours.extend([Bytes::from(text.clone())]),
                };
                if at_most(text.len()) {
                    extend(&mut ours);
                    theirs.extend_from_slice(&text);
                } else if kind % 4 == 1 || kind % 4 == 2 {
                    // One by one, until there is no room.
                    assert_eq!(attempt(|| extend(&mut ours)), None);
                    theirs.extend_from_slice(&text[..room]);
                } else {
                    panics(&mut ours, &extend);
                }
            }
            Op::ExtendFromWithin(start, end) => {
                let mut copy = theirs.clone();
                let theirs_too = attempt(|| copy.extend_from_within((start, end)));
                if theirs_too.is_none() || at_most(copy.len() - len) {
                    let ours_too = attempt(|| ours.extend_from_within((start, end)));
                    assert_eq!(ours_too, theirs_too);
                    if ours_too.is_some() {
                        theirs.extend_from_slice(&copy[len..]);
                    }
                } else {
                    panics(&mut ours, &|ours| ours.extend_from_within((start, end)));
                }
            }
            Op::Put(kind, text) if at_most(put_len(kind, &text)) => {
                put(&mut ours, kind, &text);
                put(&mut theirs, kind, &text);
            }
            Op::Put(kind, text) => panics(&mut ours, &|ours| put(ours, kind, &text)),
            Op::PutBytes(value, n) if at_most(n) => {
                ours.put_bytes(value, n);
                theirs.put_bytes(value, n);
            }
            Op::PutBytes(value, n) => panics(&mut ours, &|ours| ours.put_bytes(value, n)),
            Op::TryPut(kind, text) => {
                let requested = put_len(kind, &text);
                match try_put(&mut ours, kind, &text) {
                    Ok(()) => put(&mut theirs, kind, &text),
                    Err(error) => {
                        assert!(requested > room);
                        assert_eq!((error.requested, error.available), (requested, room));
                    }
                }
            }
            Op::Write(text) => {
                let fits = text.len().min(room);
                assert_eq!(ours.write(&text).unwrap(), fits);
                theirs.extend_from_slice(&text[..fits]);
            }
            Op::WriteText(text) => {
                assert_eq!(ours.write_str(&text).is_ok(), at_most(text.len()));
                if at_most(text.len()) {
                    theirs.write_str(&text).unwrap();
                }
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
            Op::Read(n) => read(&mut ours, &mut theirs, n),
            Op::CopyToBytes(n) => {
                let at = ours.as_ptr();
                let copies = both(|| ours.copy_to_bytes(n), || theirs.copy_to_bytes(n));
                if let Some((ours, theirs)) = copies {
                    assert!(ours.is_empty() || ours.as_ptr() == at, "a copy");
                    self.hold_foreign(ours, theirs, block.clone());
                }
            }
            Op::Freeze => return self.hold_shared(ours.freeze(), theirs.freeze(), block),
            Op::IntoBytes => return self.hold_foreign(ours.into(), theirs.into(), block),
            Op::IntoVec => {
                assert_eq!(Vec::from(ours), Vec::from(theirs));
                return;
            }
            Op::IntoIter(n) => {
                assert!(ours.into_iter().skip(n).eq(theirs.into_iter().skip(n)));
                return;
            }
            Op::Drop => return,
            _ => {}
        }
        self.hold_unique(ours, theirs, block);
    }

    fn unsplit(
        &mut self,
        mut ours: DirectBytesMut,
        mut theirs: BytesMut,
        mut block: Option<Rc<Block>>,
        other: usize,
        only_neighbours: bool,
    ) {
        let is_unique = |held: &Held| matches!(held.pair, Pair::Unique(..));
        let others: Vec<usize> = (0..self.held.len())
            .filter(|&i| is_unique(&self.held[i]))
            .collect();
        if others.is_empty() {
            return self.hold_unique(ours, theirs, block);
        }
        // A neighbour, where there is one, every second time.
        let end = ours.as_ptr() as usize + ours.len();
        let neighbour = others.iter().copied().find(|&i| {
            other % 2 == 0 && self.held[i].block.is_some() && {
                self.held[i].ours().as_ptr() as usize == end
            }
        });
        let other = self
            .held
            .swap_remove(neighbour.unwrap_or(others[other % others.len()]));
        let Pair::Unique(other_ours, other_theirs) = other.pair else {
            unreachable!("filtered");
        };
        let same_block = match (&block, &other.block) {
            (Some(a), Some(b)) => Rc::ptr_eq(a, b),
            _ => false,
        };
        let joins = other_ours.capacity() == 0 || same_block && end == other_ours.as_ptr() as usize;
        let (empty, room) = (ours.is_empty(), ours.capacity() - ours.len());
        let capacity = ours.capacity() + other_ours.capacity();
        let fits = other_ours.len() <= room;
        let joined = if only_neighbours {
            let joined = ours.try_unsplit(other_ours);
            assert_eq!(joined.is_ok(), joins);
            joined
        } else {
            let joined = ours.unsplit(other_ours);
            assert_eq!(joined.is_ok(), joins || empty || fits);
            joined
        };
        match joined {
            Ok(()) => {
                theirs.unsplit(other_theirs);
                if joins {
                    assert_eq!(ours.capacity(), capacity);
                } else if empty {
                    block = other.block;
                }
            }
            Err(same) => self.hold_unique(same, other_theirs, other.block),
        }
        self.hold_unique(ours, theirs, block);
    }

    fn shared(
        &mut self,
        mut ours: DirectBytes,
        mut theirs: Bytes,
        block: Option<Rc<Block>>,
        op: Op,
    ) {
        match op {
            Op::SplitTo(at) => {
                if let Some((ours, theirs)) = both(|| ours.split_to(at), || theirs.split_to(at)) {
                    self.hold_shared(ours, theirs, block.clone());
                }
            }
            Op::SplitOff(at) => {
                if let Some((ours, theirs)) = both(|| ours.split_off(at), || theirs.split_off(at)) {
                    self.hold_shared(ours, theirs, block.clone());
                }
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
            Op::Read(n) => read(&mut ours, &mut theirs, n),
            Op::CopyToBytes(n) => {
                let copies = both(|| ours.copy_to_bytes(n), || theirs.copy_to_bytes(n));
                if let Some((ours, theirs)) = copies {
                    self.hold_foreign(ours, theirs, block.clone());
                }
            }
            Op::Slice(start, end) => {
                let parts = both(|| ours.slice((start, end)), || theirs.slice((start, end)));
                if let Some((ours, theirs)) = parts {
                    self.hold_shared(ours, theirs, block.clone());
                }
            }
            Op::SliceOrDetach(start, end, ratio) => {
                let parts = both(
                    || ours.slice_or_detach((start, end), ratio),
                    || theirs.slice((start, end)),
                );
                if let Some((part, theirs)) = parts {
                    let pins = ours.block_len() <= ratio * part.len();
                    self.hold_foreign(part, theirs, block.clone().filter(|_| pins));
                }
            }
            Op::Clone => self.hold_shared(ours.clone(), theirs.clone(), block.clone()),
            Op::IntoBytes => {
                let at = ours.as_ptr();
                let bytes = Bytes::from(ours);
                assert!(bytes.is_empty() || bytes.as_ptr() == at, "a copy");
                return self.hold_foreign(bytes, theirs, block);
            }
            Op::IntoVec => {
                assert_eq!(Vec::from(ours), Vec::from(theirs));
                return;
            }
            Op::IntoIter(n) => {
                assert!(ours.into_iter().skip(n).eq(theirs.into_iter().skip(n)));
                return;
            }
            Op::Detach => return self.hold_foreign(ours.detach(), theirs, None),
            Op::TryIntoMut => {
                let alone = block
                    .as_ref()
                    .is_some_and(|block| Rc::strong_count(block) == 1);
                assert_eq!(ours.is_unique(), alone);
                let (at, pinned) = (ours.as_ptr(), ours.block_len());
                match ours.try_into_mut() {
                    Ok(buffer) => {
                        assert!(alone);
                        assert_eq!((buffer.as_ptr(), buffer.block_len()), (at, pinned));
                        assert!(buffer.capacity() >= buffer.len());
                        // Whether theirs is unique, and its capacity, is its own business.
                        let mut copy = BytesMut::with_capacity(buffer.capacity());
                        copy.extend_from_slice(&theirs);
                        return self.hold_unique(buffer, copy, block);
                    }
                    Err(same) => {
                        assert!(!alone);
                        assert_eq!(same.as_ptr(), at);
                        return self.hold_shared(same, theirs, block);
                    }
                }
            }
            Op::Drop => return,
            _ => {}
        }
        self.hold_shared(ours, theirs, block);
    }
}

/// Of a buffer that begins where its block does.
fn block_of(buffer: &DirectBytesMut) -> Option<Rc<Block>> {
    let (start, size) = (buffer.as_ptr() as usize, buffer.block_len());
    (size > 0).then(|| Rc::new(Block { start, size }))
}

/// Reads from both, from theirs by way of [`Buf::reader`].
fn read(ours: &mut impl Read, theirs: &mut impl Buf, n: usize) {
    let (mut a, mut b) = (vec![0; n], vec![0; n]);
    let read = ours.read(&mut a).unwrap();
    assert_eq!(read, theirs.reader().read(&mut b).unwrap());
    assert_eq!(a, b);
}

trait IntoUninit {
    fn into_uninit(self) -> std::mem::MaybeUninit<u8>;
}

impl IntoUninit for u8 {
    fn into_uninit(self) -> std::mem::MaybeUninit<u8> {
        std::mem::MaybeUninit::new(self)
    }
}

const LIMIT: usize = 1 << 20;

thread_local! {
    /// One pool for all cases: each leaves it empty.
    static POOL: (Pool, Runtime) = starved(Pool::builder().limit(LIMIT));
}

/// Applies operations, each to one of the buffers that are held, and compares.
pub(crate) fn run(ops: Vec<(usize, Op)>) {
    POOL.with(|(pool, _)| {
        let mut model = Model {
            pool,
            held: Vec::new(),
        };
        for (which, op) in ops {
            model.apply(which, op);
            for held in &model.held {
                assert_eq!(held.ours(), held.theirs());
            }
            if let [.., a, b] = &model.held[..] {
                a.check_order(b);
            }
            if let Some(held) = model.held.last() {
                held.check();
            }
        }
        model.held.iter().for_each(Held::check);
        model.held.clear();
        let stats = pool.stats();
        assert_eq!((stats.buffers, stats.live), (0, 0));
    });
}

proptest! {
    #![proptest_config(cases(1))]

    #[test]
    fn same_operations_lead_to_the_same(ops in vec((any::<usize>(), op()), 1..60)) {
        run(ops);
    }
}
