//! Phantom references: a queue of tokens whose blocks have been reclaimed.
//!
//! A buffer is registered with a handle of the queue and a token; when the block's last handle has gone and the block is queued
//! again, the token comes out of the queue, once. The count says how many there are who may still put a token in: handles, and
//! registered buffers. When it is zero and the tokens are out, the stream ends.

use std::collections::VecDeque;
use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::Stream;

use super::hooks::{Job, Token};
use crate::budget::wake;
use crate::sync::{lock, Mutex};

/// A queue of tokens whose buffers have been reclaimed: the JVM's `PhantomReference` and `ReferenceQueue`.
///
/// It is a [`Stream`]; as an iterator it blocks. It ends when no [`ReferenceHandle`] and no registered buffer is left. Each token comes
/// out exactly once, after the memory of its buffer can be reserved again; when the queue is dropped, tokens are dropped as their
/// buffers go.
///
/// # Examples
///
/// ```
/// use futures::StreamExt;
/// use offheap::{Pool, ReferenceQueue};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Pool::builder().limit(1 << 20).build()?;
/// let (mut gone, handle) = ReferenceQueue::<u32>::new();
/// let frame = pool.reserve(4096).await?.freeze();
/// frame.notify(&handle, 7);
/// drop(frame);
/// assert_eq!(gone.next().await, Some(7));
/// drop(handle);
/// assert_eq!(gone.next().await, None);
/// # Ok(())
/// # }
/// ```
pub struct ReferenceQueue<T> {
    shared: Arc<Shared<T>>,
}

/// Registers buffers with a [`ReferenceQueue`]; by [`DirectBytes::notify`](crate::DirectBytes::notify) and
/// [`DirectBytesMut::notify`](crate::DirectBytesMut::notify).
pub struct ReferenceHandle<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    tokens: VecDeque<T>,
    /// Handles, and registered buffers.
    sources: usize,
    waker: Option<Waker>,
    /// The queue was dropped.
    closed: bool,
}

impl<T> ReferenceQueue<T> {
    /// An empty queue, and a handle to register buffers with it.
    #[allow(clippy::new_ret_no_self)]
    pub fn new() -> (ReferenceQueue<T>, ReferenceHandle<T>) {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                tokens: VecDeque::new(),
                sources: 1,
                waker: None,
                closed: false,
            }),
        });
        let handle = ReferenceHandle {
            shared: shared.clone(),
        };
        (ReferenceQueue { shared }, handle)
    }

    /// How many tokens are ready.
    pub fn len(&self) -> usize {
        lock(&self.shared.state).tokens.len()
    }

    /// Whether no token is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next token, without waiting.
    pub fn pop(&mut self) -> Option<T> {
        lock(&self.shared.state).tokens.pop_front()
    }

    /// The next token; `None` when no handle and no registered buffer is left.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the caller goes away: a token is taken only when it is returned.
    pub fn poll_pop(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        // User code, so without the lock: cloning the new waker, and dropping the old one.
        let mut waker = None;
        loop {
            let mut state = lock(&self.shared.state);
            if let Some(token) = state.tokens.pop_front() {
                return Poll::Ready(Some(token));
            }
            if state.sources == 0 {
                return Poll::Ready(None);
            }
            if state
                .waker
                .as_ref()
                .is_some_and(|own| own.will_wake(cx.waker()))
            {
                return Poll::Pending;
            }
            if waker.is_some() {
                let old = std::mem::replace(&mut state.waker, waker);
                drop(state);
                drop(old);
                return Poll::Pending;
            }
            drop(state);
            waker = Some(cx.waker().clone());
        }
    }

    /// Blocks for each token in turn; ends as the stream does.
    ///
    /// # Panics
    ///
    /// Its `next` panics in an asynchronous context, as tokio's blocking calls do. `spawn_blocking` is fine.
    #[cfg(not(offheap_loom))]
    pub fn iter(&mut self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.pop_blocking())
    }

    #[cfg(not(offheap_loom))]
    fn pop_blocking(&mut self) -> Option<T> {
        crate::reserve::assert_may_block();
        let waker = crate::reserve::unpark_this_thread();
        let mut cx = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(token) = self.poll_pop(&mut cx) {
                return token;
            }
            std::thread::park();
        }
    }
}

impl<T> Stream for ReferenceQueue<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.poll_pop(cx)
    }
}

/// Blocks for each token: see [`ReferenceQueue::iter`].
#[cfg(not(offheap_loom))]
impl<T> IntoIterator for ReferenceQueue<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { queue: self }
    }
}

/// The blocking iterator over a [`ReferenceQueue`].
#[cfg(not(offheap_loom))]
#[derive(Debug)]
pub struct IntoIter<T> {
    queue: ReferenceQueue<T>,
}

#[cfg(not(offheap_loom))]
impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.queue.pop_blocking()
    }
}

impl<T> Drop for ReferenceQueue<T> {
    fn drop(&mut self) {
        let left = {
            let mut state = lock(&self.shared.state);
            state.closed = true;
            (std::mem::take(&mut state.tokens), state.waker.take())
        };
        // User code, so without the lock.
        drop(left);
    }
}

impl<T> Shared<T> {
    /// One source less, with its token if it was a buffer. A token that nobody will take is dropped here.
    fn leave(&self, token: Option<T>) {
        let (refused, waker) = {
            let mut state = lock(&self.state);
            state.sources -= 1;
            let refused = match token {
                Some(token) if !state.closed => {
                    state.tokens.push_back(token);
                    None
                }
                token => token,
            };
            let done = state.sources == 0 || !state.tokens.is_empty();
            (refused, state.waker.take_if(|_| done))
        };
        waker.into_iter().for_each(wake);
        drop(refused);
    }
}

impl<T: Send + 'static> ReferenceHandle<T> {
    /// What delivers the token.
    pub(crate) fn job(&self, token: T, site: &'static Location<'static>) -> Job {
        lock(&self.shared.state).sources += 1;
        let registered = Registered {
            shared: self.shared.clone(),
            token: Some(token),
        };
        Job::Token(Token {
            deliver: Box::new(move || drop(registered)),
            site,
        })
    }
}

/// A registered buffer: its token is delivered when this goes, one way or another.
struct Registered<T> {
    shared: Arc<Shared<T>>,
    token: Option<T>,
}

impl<T> Drop for Registered<T> {
    fn drop(&mut self) {
        self.shared.leave(self.token.take());
    }
}

impl<T> Clone for ReferenceHandle<T> {
    fn clone(&self) -> Self {
        lock(&self.shared.state).sources += 1;
        ReferenceHandle {
            shared: self.shared.clone(),
        }
    }
}

impl<T> Drop for ReferenceHandle<T> {
    fn drop(&mut self) {
        self.shared.leave(None);
    }
}

impl<T> fmt::Debug for ReferenceQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReferenceQueue")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for ReferenceHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReferenceHandle").finish_non_exhaustive()
    }
}
