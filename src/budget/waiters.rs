//! The FIFO of parked reservations.
//!
//! It is an intrusive list as in tokio's semaphore: the node lies in the reservation's future, so that waiting allocates
//! nothing. Every access to a node that is in the queue happens under the lock that owns the [`Queue`]; the node
//! leaves the queue before its outcome is published, and whoever published it does not touch it again. So a future that
//! sees its outcome may go away without the lock.

use std::any::Any;
use std::marker::PhantomPinned;
use std::mem::MaybeUninit;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::NonNull;
use std::task::Waker;

use crate::sync::{AtomicU8, Ordering, UnsafeCell};

/// Where a reservation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    /// Not in the queue, and not served.
    Idle = 0,
    /// In the queue.
    Waiting = 1,
    /// Served or refused: the payload says which.
    Done = 2,
}

/// A place in the queue, and what its owner waits for.
#[derive(Debug)]
pub(crate) struct Node<T> {
    status: AtomicU8,
    /// Written by `push_back`: a reservation that does not wait shall not pay for moving them. Nothing in them has to be dropped once the
    /// node has left the queue.
    links: UnsafeCell<MaybeUninit<Links<T>>>,
    payload: UnsafeCell<T>,
    _pinned: PhantomPinned,
}

#[derive(Debug)]
struct Links<T> {
    prev: Option<NonNull<Node<T>>>,
    next: Option<NonNull<Node<T>>>,
    waker: Option<Waker>,
    /// Bytes that are waited for.
    weight: u64,
    /// When the node joined the queue.
    #[cfg(feature = "_waits")]
    joined: std::time::Instant,
}

// SAFETY: the cells are governed by the status and the lock as the module says; wakers and payload are `Send`.
unsafe impl<T: Send> Send for Node<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Node<T> {}

impl<T> Node<T> {
    #[inline]
    pub(crate) fn new(payload: T) -> Self {
        Node {
            status: AtomicU8::new(Status::Idle as u8),
            links: UnsafeCell::new(MaybeUninit::uninit()),
            payload: UnsafeCell::new(payload),
            _pinned: PhantomPinned,
        }
    }

    #[inline]
    pub(crate) fn status(&self) -> Status {
        match self.status.load(Ordering::Acquire) {
            0 => Status::Idle,
            1 => Status::Waiting,
            _ => Status::Done,
        }
    }

    /// The payload, for the node's owner while the node is not in the queue.
    ///
    /// # Safety
    ///
    /// The caller owns the node, and has seen a status other than `Waiting`.
    #[inline]
    pub(crate) unsafe fn payload<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        debug_assert_ne!(self.status(), Status::Waiting);
        // SAFETY: outside the queue only the owner touches the payload.
        self.payload.with_mut(|payload| f(unsafe { &mut *payload }))
    }

    /// When a node joined the queue that it has left again.
    ///
    /// # Safety
    ///
    /// The caller owns the node, and has seen the status `Done`.
    #[cfg(feature = "_waits")]
    pub(crate) unsafe fn joined(&self) -> std::time::Instant {
        debug_assert_eq!(self.status(), Status::Done);
        self.links
            // SAFETY: outside the queue only the owner touches the links, and a node that is done went through `push_back`.
            .with_mut(|links| unsafe { (*links).assume_init_ref() }.joined)
    }

    /// Makes the node usable for another wait.
    ///
    /// # Safety
    ///
    /// As for [`payload`](Self::payload).
    pub(crate) unsafe fn reset(&self) {
        debug_assert_ne!(self.status(), Status::Waiting);
        self.status.store(Status::Idle as u8, Ordering::Relaxed);
    }
}

/// The queue. Lives inside the waiters' lock.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    head: Option<NonNull<Node<T>>>,
    tail: Option<NonNull<Node<T>>>,
    len: usize,
    /// The sum of the nodes' weights.
    weight: u64,
}

// SAFETY: the queue's nodes are only reached through it, under the lock that it lives in.
unsafe impl<T: Send> Send for Queue<T> {}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Queue {
            head: None,
            tail: None,
            len: 0,
            weight: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Joins at the end.
    ///
    /// # Safety
    ///
    /// The node is idle, and stays where it is until it has left the queue by `finish_head`, `finish` or `remove`.
    pub(crate) unsafe fn push_back(&mut self, node: &Node<T>, weight: u64, waker: Waker) {
        debug_assert_eq!(node.status(), Status::Idle);
        let this = NonNull::from(node);
        node.links.with_mut(|links| {
            // SAFETY: the lock is held (we have the queue) and the node is its owner's until it is linked.
            unsafe { &mut *links }.write(Links {
                prev: self.tail,
                next: None,
                waker: Some(waker),
                weight,
                #[cfg(feature = "_waits")]
                joined: std::time::Instant::now(),
            });
        });
        match self.tail {
            // SAFETY: a linked node stays valid until it is unlinked.
            Some(tail) => Self::links(unsafe { tail.as_ref() }, |links| links.next = Some(this)),
            None => self.head = Some(this),
        }
        self.tail = Some(this);
        self.len += 1;
        self.weight += weight;
        node.status.store(Status::Waiting as u8, Ordering::Relaxed);
    }

    fn links<R>(node: &Node<T>, f: impl FnOnce(&mut Links<T>) -> R) -> R {
        node.links
            // SAFETY: callers are methods of the queue, so the lock is held, and the node is linked or being unlinked: it went through `push_back`.
            .with_mut(|links| f(unsafe { (*links).assume_init_mut() }))
    }

    /// The payload of the reservation that is next.
    pub(crate) fn head(&mut self) -> Option<&mut T> {
        // SAFETY: a linked node stays valid until it is unlinked.
        let head = unsafe { self.head?.as_ref() };
        // SAFETY: under the lock, a linked node's payload is the queue's; the borrow of `self` keeps it unique.
        Some(head.payload.with_mut(|payload| unsafe { &mut *payload }))
    }

    /// The head leaves, served or refused; its waker is for the caller to wake, outside the lock.
    pub(crate) fn finish_head(&mut self) -> Option<Waker> {
        let head = self.head?;
        // SAFETY: a linked node stays valid until it is unlinked, which happens here.
        self.finish(unsafe { head.as_ref() })
    }

    /// Shows the first `most` who wait, in order: the payload, bytes that are waited for, and since when.
    #[cfg(any(feature = "metrics", feature = "inspector"))]
    pub(crate) fn show(&self, most: usize, mut f: impl FnMut(&T, u64, std::time::Instant)) {
        let mut next = self.head;
        for _ in 0..most {
            // SAFETY: a linked node stays valid until it is unlinked.
            let Some(node) = next.map(|node| unsafe { node.as_ref() }) else {
                return;
            };
            let (weight, joined);
            (next, weight, joined) =
                Self::links(node, |links| (links.next, links.weight, links.joined));
            // SAFETY: under the lock, a linked node's payload is the queue's.
            node.payload
                .with_mut(|payload| f(unsafe { &*payload }, weight, joined));
        }
    }

    /// Finishes, wherever they stand, those of whom `refuse` says so, until `wakers` is full.
    pub(crate) fn finish_where(
        &mut self,
        mut refuse: impl FnMut(&mut T) -> bool,
        wakers: &mut WakeList,
    ) {
        let mut next = self.head;
        while let Some(node) = next.filter(|_| !wakers.is_full()) {
            // SAFETY: a linked node stays valid until it is unlinked.
            let node = unsafe { node.as_ref() };
            next = Self::links(node, |links| links.next);
            let refused = node.payload.with_mut(|payload| {
                // SAFETY: under the lock, a linked node's payload is the queue's.
                refuse(unsafe { &mut *payload })
            });
            if refused {
                wakers.extend(self.finish(node));
            }
        }
    }

    fn finish(&mut self, node: &Node<T>) -> Option<Waker> {
        let waker = self.unlink(node);
        // The last touch: from here on the node is its owner's again.
        node.status.store(Status::Done as u8, Ordering::Release);
        waker
    }

    /// Takes a waiting node out of the queue before it is served. Its owner calls this, with the lock held.
    pub(crate) fn remove(&mut self, node: &Node<T>) -> Option<Waker> {
        debug_assert_eq!(node.status(), Status::Waiting);
        let waker = self.unlink(node);
        node.status.store(Status::Idle as u8, Ordering::Relaxed);
        waker
    }

    fn unlink(&mut self, node: &Node<T>) -> Option<Waker> {
        let (prev, next, waker) = Self::links(node, |links| {
            self.weight -= links.weight;
            (links.prev.take(), links.next.take(), links.waker.take())
        });
        match prev {
            // SAFETY: neighbours of a linked node are linked, hence valid.
            Some(prev) => Self::links(unsafe { prev.as_ref() }, |links| links.next = next),
            None => self.head = next,
        }
        match next {
            // SAFETY: as above.
            Some(next) => Self::links(unsafe { next.as_ref() }, |links| links.prev = prev),
            None => self.tail = prev,
        }
        self.len -= 1;
        waker
    }

    /// Whether a waiting node would wake `waker`.
    pub(crate) fn wakes(&self, node: &Node<T>, waker: &Waker) -> bool {
        Self::links(node, |links| {
            links.waker.as_ref().is_some_and(|own| own.will_wake(waker))
        })
    }

    /// Replaces a waiting node's waker; the old one is for the caller to drop, outside the lock.
    pub(crate) fn set_waker(&mut self, node: &Node<T>, waker: Waker) -> Option<Waker> {
        Self::links(node, |links| links.waker.replace(waker))
    }

    /// Takes the head's waker, so that the head is polled while it still waits. `None` where that was done already.
    pub(crate) fn call_head(&mut self) -> Option<Waker> {
        // SAFETY: a linked node stays valid until it is unlinked.
        let head = unsafe { self.head?.as_ref() };
        Self::links(head, |links| links.waker.take())
    }
}

/// Wakers to be woken once the lock is gone. Allocates nothing; when it is full, its owner unlocks and wakes.
#[derive(Debug)]
pub(crate) struct WakeList {
    /// The first `len` are there.
    wakers: [MaybeUninit<Waker>; WakeList::SIZE],
    len: usize,
}

impl WakeList {
    const SIZE: usize = 32;

    pub(crate) fn new() -> Self {
        WakeList {
            wakers: [const { MaybeUninit::uninit() }; WakeList::SIZE],
            len: 0,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len == Self::SIZE
    }

    pub(crate) fn extend(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.wakers[self.len].write(waker);
            self.len += 1;
        }
    }

    /// Wakes all, in order. A waker that panics keeps no one else from being woken, and does not unwind into a drop.
    pub(crate) fn wake(&mut self) {
        for slot in &self.wakers[..std::mem::take(&mut self.len)] {
            // SAFETY: one of the first `len`, and `len` is zero now, so that it is not read again.
            wake(unsafe { slot.assume_init_read() });
        }
    }
}

impl Drop for WakeList {
    fn drop(&mut self) {
        // Nobody forgets to wake; should it happen, waking late is better than never.
        self.wake();
    }
}

/// Wakes, and keeps a panic of the waker to itself.
pub(crate) fn wake(waker: Waker) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        discard(payload);
    }
}

/// Drops what user code panicked with, which is user code again: where that panics, too, what it panicked with is next. Who goes on
/// like that is leaked in the end.
pub(crate) fn discard(mut payload: Box<dyn Any + Send>) {
    for _ in 0..3 {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    std::mem::forget(payload);
}
