//! Invariant 11, no user memory unsafety from safe code: no uninitialised byte is readable, no two live handles overlap
//! mutably, no double free is expressible, and nothing revives a recycled block.

#[path = "support/config.rs"]
mod config;
#[path = "support/random.rs"]
mod random;
#[path = "support/sizes.rs"]
mod sizes;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::ops::Range;
use std::sync::mpsc::channel;
use std::sync::Mutex;
use std::thread;

use bytes::{Buf, BufMut, Bytes};
use offheap::{DirectBytes, DirectBytesMut, Pool};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use config::cases;
use random::Random;
use sizes::sizes;
use watchdog::within;

const LIMIT: usize = 64 << 10;

#[derive(Debug, Clone)]
enum Step {
    Reserve(usize),
    Write(Index, usize),
    SplitTo(Index, Index),
    SplitOff(Index, Index),
    Advance(Index, Index),
    Truncate(Index, Index),
    Freeze(Index),
    Slice(Index, Index, Index),
    SplitShared(Index, Index),
    Clone(Index),
    IntoMut(Index),
    IntoBytes(Index),
    Drop(Index),
    Trim,
    ClosePool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<Index>;
    let step = prop_oneof![
        60 => sizes(LIMIT / 4).prop_map(Step::Reserve),
        60 => (index(), 0..300_usize).prop_map(|(a, n)| Step::Write(a, n)),
        20 => (index(), index()).prop_map(|(a, b)| Step::SplitTo(a, b)),
        20 => (index(), index()).prop_map(|(a, b)| Step::SplitOff(a, b)),
        10 => (index(), index()).prop_map(|(a, b)| Step::Advance(a, b)),
        10 => (index(), index()).prop_map(|(a, b)| Step::Truncate(a, b)),
        40 => index().prop_map(Step::Freeze),
        20 => (index(), index(), index()).prop_map(|(a, b, c)| Step::Slice(a, b, c)),
        20 => (index(), index()).prop_map(|(a, b)| Step::SplitShared(a, b)),
        20 => index().prop_map(Step::Clone),
        20 => index().prop_map(Step::IntoMut),
        5 => index().prop_map(Step::IntoBytes),
        60 => index().prop_map(Step::Drop),
        5 => Just(Step::Trim),
        1 => Just(Step::ClosePool),
    ];
    vec(step, 1..80)
}

enum Handle {
    Unique(DirectBytesMut),
    Shared(DirectBytes),
    Foreign(Bytes),
}

/// A handle, and what has to be in it.
struct Held {
    handle: Handle,
    content: Vec<u8>,
}

impl Held {
    fn bytes(&self) -> &[u8] {
        match &self.handle {
            Handle::Unique(buffer) => buffer,
            Handle::Shared(buffer) => buffer,
            Handle::Foreign(buffer) => buffer,
        }
    }

    /// The memory that it may read, or write if it is unique.
    fn range(&mut self) -> Range<usize> {
        let (start, len) = match &mut self.handle {
            Handle::Unique(buffer) => (buffer.as_ptr(), buffer.capacity()),
            Handle::Shared(buffer) => (buffer.as_ptr(), buffer.len()),
            Handle::Foreign(buffer) => (buffer.as_ptr(), buffer.len()),
        };
        start as usize..start as usize + len
    }

    fn is_unique(&self) -> bool {
        matches!(self.handle, Handle::Unique(_))
    }
}

struct Hands {
    pool: Option<Pool>,
    held: Vec<Held>,
    /// No two writes are alike.
    stamp: u8,
}

impl Hands {
    fn put(&mut self, handle: Handle, content: Vec<u8>) {
        self.held.push(Held { handle, content });
    }

    fn take(&mut self, index: &Index) -> Option<Held> {
        let len = self.held.len();
        (len > 0).then(|| self.held.swap_remove(index.index(len)))
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Reserve(n) => {
                let buffer = self.pool.as_ref().map(|pool| pool.try_reserve(*n));
                if let Some(Ok(buffer)) = buffer {
                    assert!(buffer.is_empty(), "bytes that nobody wrote");
                    self.put(Handle::Unique(buffer), Vec::new());
                }
            }
            Step::Trim => drop(self.pool.as_ref().map(Pool::trim)),
            Step::ClosePool => self.pool = None,
            Step::Write(a, ..)
            | Step::SplitTo(a, _)
            | Step::SplitOff(a, _)
            | Step::Advance(a, _)
            | Step::Truncate(a, _)
            | Step::Freeze(a)
            | Step::Slice(a, ..)
            | Step::SplitShared(a, _)
            | Step::Clone(a)
            | Step::IntoMut(a)
            | Step::IntoBytes(a)
            | Step::Drop(a) => {
                if let Some(held) = self.take(a) {
                    self.change(held, step);
                }
            }
        }
    }

    fn change(&mut self, held: Held, step: &Step) {
        let Held {
            handle,
            mut content,
        } = held;
        match (handle, step) {
            (handle, Step::Drop(_)) => drop(handle),
            (Handle::Unique(mut buffer), step) => {
                match step {
                    Step::Write(_, n) => {
                        self.stamp = self.stamp.wrapping_add(1);
                        let n = (*n).min(buffer.remaining_mut());
                        buffer.put_bytes(self.stamp, n);
                        content.resize(content.len() + n, self.stamp);
                    }
                    Step::SplitTo(_, at) => {
                        let at = at.index(buffer.len() + 1);
                        let front = buffer.split_to(at);
                        let rest = content.split_off(at);
                        self.put(Handle::Unique(front), content);
                        content = rest;
                    }
                    Step::SplitOff(_, at) => {
                        let at = at.index(buffer.capacity() + 1);
                        let back = buffer.split_off(at);
                        let rest = content.split_off(at.min(content.len()));
                        self.put(Handle::Unique(back), rest);
                    }
                    Step::Advance(_, by) => {
                        let by = by.index(buffer.len() + 1);
                        buffer.advance(by);
                        content.drain(..by);
                    }
                    Step::Truncate(_, to) => {
                        let to = to.index(buffer.len() + 1);
                        buffer.truncate(to);
                        content.truncate(to);
                    }
                    Step::Freeze(_) => {
                        self.put(Handle::Shared(buffer.freeze()), content);
                        return;
                    }
                    _ => {}
                }
                self.put(Handle::Unique(buffer), content);
            }
            (Handle::Shared(mut buffer), step) => {
                match step {
                    Step::Slice(_, from, to) => {
                        let from = from.index(buffer.len() + 1);
                        let to = from + to.index(buffer.len() - from + 1);
                        let slice = buffer.slice(from..to);
                        self.put(Handle::Shared(slice), content[from..to].to_vec());
                    }
                    Step::SplitShared(_, at) => {
                        let at = at.index(buffer.len() + 1);
                        let (part, of_part) = if at % 2 == 0 {
                            let rest = content.split_off(at);
                            (buffer.split_to(at), std::mem::replace(&mut content, rest))
                        } else {
                            (buffer.split_off(at), content.split_off(at))
                        };
                        self.put(Handle::Shared(part), of_part);
                    }
                    Step::Advance(_, by) => {
                        let by = by.index(buffer.len() + 1);
                        Buf::advance(&mut buffer, by);
                        content.drain(..by);
                    }
                    Step::Truncate(_, to) => {
                        let to = to.index(buffer.len() + 1);
                        buffer.truncate(to);
                        content.truncate(to);
                    }
                    Step::Clone(_) => self.put(Handle::Shared(buffer.clone()), content.clone()),
                    Step::IntoMut(_) => {
                        let handle = match buffer.try_into_mut() {
                            Ok(unique) => Handle::Unique(unique),
                            Err(shared) => Handle::Shared(shared),
                        };
                        self.put(handle, content);
                        return;
                    }
                    Step::IntoBytes(_) => {
                        self.put(Handle::Foreign(buffer.into()), content);
                        return;
                    }
                    _ => {}
                }
                self.put(Handle::Shared(buffer), content);
            }
            (handle, _) => self.put(handle, content),
        }
    }

    fn check(&mut self) {
        for held in &self.held {
            assert!(held.bytes() == held.content, "the contents have changed");
        }
        // Whoever may write shares no byte with anyone.
        let mut ranges: Vec<_> = self
            .held
            .iter_mut()
            .map(|held| (held.range(), held.is_unique()))
            .filter(|(range, _)| !range.is_empty())
            .collect();
        ranges.sort_by_key(|(range, _)| range.start);
        let mut end_of_all = 0;
        let mut end_of_unique = 0;
        for (range, is_unique) in ranges {
            assert!(range.start >= end_of_unique, "someone else's to write");
            assert!(
                !is_unique || range.start >= end_of_all,
                "someone else reads it"
            );
            end_of_all = end_of_all.max(range.end);
            if is_unique {
                end_of_unique = range.end;
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(1))]

    /// Each write is stamped, and each handle remembers what it has to read, whatever is done with the others. In a pool that
    /// is much too small for all, so that blocks are used again and again.
    #[test]
    fn contents_never_mix(steps in steps()) {
        let mut hands = Hands {
            pool: Some(Pool::builder().limit(LIMIT).build()?),
            held: Vec::new(),
            stamp: 0,
        };
        for step in &steps {
            hands.step(step);
            hands.check();
        }
        while let Some(held) = hands.held.pop() {
            drop(held);
            hands.check();
        }
        if let Some(pool) = &hands.pool {
            prop_assert_eq!(pool.stats().live, 0);
        }
    }

    /// Memory that others wrote to is zero where zero was asked for, and has no length where it was not.
    #[test]
    fn nobody_reads_what_others_left(first in sizes(LIMIT), n in sizes(LIMIT)) {
        let pool = Pool::builder().limit(LIMIT).build()?;
        for size in [first, n] {
            let mut buffer = pool.try_reserve(size)?;
            buffer.resize(buffer.capacity(), 0xFF);
        }
        prop_assert!(pool.try_reserve(n)?.is_empty());
        let zeroed = futures::executor::block_on(pool.reserve_zeroed(n))?;
        prop_assert_eq!(zeroed.len(), n);
        prop_assert!(zeroed.iter().all(|&byte| byte == 0));
    }
}

/// Clones go through threads and are checked there, while their blocks' neighbours come and go.
#[test]
fn contents_never_mix_between_threads() {
    within(60, || {
        let pool = Pool::builder().limit(4 * LIMIT).build().unwrap();
        let (send, receive) = channel::<(u8, DirectBytes)>();
        let receive = Mutex::new(receive);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| loop {
                    let message = receive.lock().unwrap().recv();
                    let Ok((stamp, bytes)) = message else {
                        return;
                    };
                    assert!(bytes.iter().all(|&byte| byte == stamp), "not what was sent");
                    // Perhaps the last handle: then it may be written again.
                    if let Ok(mut buffer) = bytes.try_into_mut() {
                        buffer.fill(0);
                        buffer.resize(buffer.capacity(), 0);
                    }
                });
            }
            for seed in 0..2 {
                let (pool, send) = (&pool, send.clone());
                scope.spawn(move || {
                    let mut random = Random::new(seed);
                    for round in 0..3000_usize {
                        let stamp = (round % 251) as u8 + 1;
                        let n = 1 + random.below(5000);
                        let mut buffer = pool.reserve_blocking(n).unwrap();
                        assert!(buffer.is_empty());
                        buffer.resize(n, stamp);
                        let bytes = buffer.freeze();
                        let part = bytes.slice(random.below(n)..);
                        send.send((stamp, part)).unwrap();
                        send.send((stamp, bytes)).unwrap();
                    }
                });
            }
            drop(send);
        });
        assert_eq!(pool.stats().live, 0);
    });
}

/// Whoever has the last of several handles may write, and only it.
#[test]
fn only_the_last_handle_becomes_writable() {
    let pool = Pool::builder().limit(LIMIT).build().unwrap();
    let bytes = pool.try_copy_from_slice(b"hello world").unwrap();
    let (hello, world) = (bytes.slice(..5), bytes.slice(6..));
    let bytes = bytes.try_into_mut().unwrap_err();
    drop(bytes);
    let hello = hello.try_into_mut().unwrap_err();
    drop(hello);
    let mut world = world.try_into_mut().unwrap();
    assert_eq!(world, b"world"[..]);
    // From its start to the end of the block, and not what was before it.
    assert_eq!(world.capacity(), world.block_len() - 6);
    world.resize(world.capacity(), b'!');

    // Two halves of one buffer are two handles to one block.
    let mut buffer = pool.try_reserve(100).unwrap();
    buffer.put_slice(b"leftright");
    let left = buffer.split_to(4).freeze();
    let left = left.try_into_mut().unwrap_err();
    drop(buffer);
    let left = left.try_into_mut().unwrap();
    assert_eq!(left, b"left"[..]);
    assert!(DirectBytes::new().try_into_mut().is_err());
}

/// What may be sent, and what can not be done twice.
#[test]
fn the_types_say_it() {
    fn is_send_and_sync<T: Send + Sync + Unpin + 'static>() {}
    is_send_and_sync::<Pool>();
    is_send_and_sync::<DirectBytes>();
    is_send_and_sync::<DirectBytesMut>();
    fn is_send<T: Send>(_: &T) {}
    let pool = Pool::builder().limit(LIMIT).build().unwrap();
    is_send(&pool.reserve(1));
    is_send(&pool.reserve_owned(1));
    is_send(&pool.reserve_zeroed(1));
    is_send(&pool.reserve_many([1]));
    is_send(&pool.copy_from_slice(b"x"));
    is_send(&pool.closed());
    is_send(&offheap::PollReserve::new(pool.clone()));
    assert_eq!(size_of::<DirectBytes>(), 24);
    assert_eq!(size_of::<Option<DirectBytes>>(), 24);
}
