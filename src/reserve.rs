//! The ways to get memory: waiting, not waiting, and blocking.

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::{pin, Pin};
use std::sync::Arc;
use std::task::{ready, Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use pin_project_lite::pin_project;

use crate::arena::Handle;
use crate::bytes::{DirectBytes, DirectBytesMut};
use crate::engine::{Claim, HasEngine, Refused, Wait};
use crate::error::{ReserveError, TryReserveError};
use crate::pool::Pool;

impl Pool {
    /// A writable buffer for at least `n` bytes, with `len() == 0`. Waits while the limit has no room for it.
    ///
    /// Waiting is first come, first served: whoever waits is served before any newcomer, and before anyone behind it, even
    /// where that one asks for less. There is no timeout: `tokio::time::timeout(d, pool.reserve(n))` is the way, and loses
    /// nothing. A task that waits while it holds buffers of the same pool can wait for itself: reserve what is needed
    /// at once with [`reserve_many`](Pool::reserve_many).
    ///
    /// Works under any executor. From this thread's magazine or its size's depot it is O(1) and takes no lock; waiting
    /// allocates nothing.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](ReserveError::TooLarge) for `n` above [`max_reserve`](Pool::max_reserve), at once, also where the limit is
    /// lowered while it waits; [`Closed`](ReserveError::Closed) when the pool is closed; [`Os`](ReserveError::Os)
    /// where the operating system refuses memory below the limit.
    ///
    /// # Cancel safety
    ///
    /// The future holds its place in the queue from its first poll until it resolves or is dropped. Dropping it at any moment,
    /// also after its grant, loses nothing: the memory goes to whoever is next.
    #[track_caller]
    #[inline]
    pub fn reserve(&self, n: usize) -> Reserve<'_> {
        Reserve::new(self, n, 0)
    }

    /// [`reserve`](Pool::reserve) as a future that owns its pool, for spawned tasks and struct fields.
    #[track_caller]
    #[inline]
    pub fn reserve_owned(&self, n: usize) -> ReserveOwned {
        ReserveOwned {
            pool: self.clone(),
            ask: Ask::new(n),
            wait: None,
        }
    }

    /// [`reserve`](Pool::reserve) with `len() == n` and all of it zero.
    #[track_caller]
    #[inline]
    pub fn reserve_zeroed(&self, n: usize) -> Reserve<'_> {
        Reserve::new(self, n, n)
    }

    /// Buffers for each of `sizes`, all or nothing, with one place in the queue.
    ///
    /// # Errors
    ///
    /// As for [`reserve`](Pool::reserve); [`TooLarge`](ReserveError::TooLarge) also where the limit has no room for all of
    /// them together.
    ///
    /// # Cancel safety
    ///
    /// As for [`reserve`](Pool::reserve).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
    /// let buffers = pool.reserve_many([512, 64 << 10]).await?;
    /// assert!(buffers[0].capacity() >= 512 && buffers[1].capacity() >= 64 << 10);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn reserve_many(&self, sizes: impl IntoIterator<Item = usize>) -> ReserveMany<'_> {
        ReserveMany {
            wait: Wait::new(
                self,
                Claim::many(sizes.into_iter().collect(), Location::caller()),
            ),
        }
    }

    /// [`reserve`](Pool::reserve) without waiting.
    ///
    /// It helps itself to memory that is queued anywhere in the pool, and cleans what it needs. It does not overtake: while
    /// anyone waits it fails.
    ///
    /// # Errors
    ///
    /// [`Exhausted`](TryReserveError::Exhausted) where there is no room, or others wait. It may say so wrongly while another
    /// thread is moving or cleaning the very memory that is needed. The others as for [`reserve`](Pool::reserve).
    #[track_caller]
    #[inline]
    pub fn try_reserve(&self, n: usize) -> Result<DirectBytesMut, TryReserveError> {
        let site = Location::caller();
        match self.engine().lease_fast(n, site) {
            Some(handle) => Ok(DirectBytesMut::from_handle(handle)),
            None => self.try_reserve_slow(n, site),
        }
    }

    #[cold]
    fn try_reserve_slow(
        &self,
        n: usize,
        site: &'static Location<'static>,
    ) -> Result<DirectBytesMut, TryReserveError> {
        let engine = self.engine();
        let block = match n {
            0 if engine.is_closed() => Err(Refused::Closed),
            0 => return Ok(DirectBytesMut::new()),
            _ => engine.try_obtain_slow(n),
        };
        match block {
            Ok(block) => {
                let handle = block.lease(n, site, engine.tick());
                Ok(DirectBytesMut::from_handle(handle))
            }
            Err(why) => Err(TryReserveError::new(engine, n as u64, 0, why)),
        }
    }

    /// [`reserve`](Pool::reserve) for plain threads: blocks until there is memory.
    ///
    /// # Errors
    ///
    /// As for [`reserve`](Pool::reserve).
    ///
    /// # Panics
    ///
    /// In an asynchronous context, as tokio's blocking calls do. `spawn_blocking` is fine.
    #[track_caller]
    pub fn reserve_blocking(&self, n: usize) -> Result<DirectBytesMut, ReserveError> {
        assert_may_block();
        let mut reserve = pin!(self.reserve(n));
        let waker = unpark_this_thread();
        let mut cx = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(done) = reserve.as_mut().poll(&mut cx) {
                return done;
            }
            thread::park();
        }
    }

    /// A shared copy of `data` in the pool's memory. Waits as [`reserve`](Pool::reserve) does.
    ///
    /// # Errors
    ///
    /// As for [`reserve`](Pool::reserve).
    ///
    /// # Cancel safety
    ///
    /// As for [`reserve`](Pool::reserve).
    #[track_caller]
    pub fn copy_from_slice<'a>(&'a self, data: &'a [u8]) -> CopyFromSlice<'a> {
        CopyFromSlice {
            reserve: Reserve::new(self, data.len(), 0),
            data,
        }
    }

    /// [`copy_from_slice`](Pool::copy_from_slice) without waiting.
    ///
    /// # Errors
    ///
    /// As for [`try_reserve`](Pool::try_reserve).
    #[track_caller]
    pub fn try_copy_from_slice(&self, data: &[u8]) -> Result<DirectBytes, TryReserveError> {
        let mut buffer = self.try_reserve(data.len())?;
        buffer.extend_from_slice(data);
        Ok(buffer.freeze())
    }

    fn refuse(&self, n: u64, why: Refused) -> ReserveError {
        ReserveError::new(self.engine(), n, 0, why)
    }
}

/// The buffer that a grant is; empty where nothing was asked for.
#[inline]
fn whole(granted: Option<Handle>) -> DirectBytesMut {
    granted.map_or(DirectBytesMut::new(), DirectBytesMut::from_handle)
}

/// What a future for one buffer asks for, and of which pool. It makes its [`Wait`] when it has to wait: one that does not writes little
/// more than what is here.
#[derive(Debug, Clone, Copy)]
struct Ask {
    n: usize,
    site: &'static Location<'static>,
}

impl Ask {
    #[track_caller]
    #[inline]
    fn new(n: usize) -> Ask {
        Ask {
            n,
            site: Location::caller(),
        }
    }

    /// The buffer, where it can be had without waiting and nothing waits yet.
    ///
    /// Always inlined, so that it stays in registers: see [`Engine::lease_fast`](crate::engine::Engine::lease_fast).
    #[inline(always)]
    fn at_once<T>(self, pool: &Pool, waiting: &Option<T>) -> Option<DirectBytesMut> {
        match waiting {
            None => pool
                .engine()
                .lease_fast(self.n, self.site)
                .map(DirectBytesMut::from_handle),
            Some(_) => None,
        }
    }

    #[inline]
    fn poll<P: HasEngine + Borrow<Pool>>(
        self,
        pool: impl FnOnce() -> P,
        mut wait: Pin<&mut Option<Wait<P>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<DirectBytesMut, ReserveError>> {
        if wait.is_none() {
            let claim = Claim::one(self.n, self.site);
            wait.set(Some(Wait::new(pool(), claim)));
        }
        match wait.as_ref().as_pin_ref() {
            Some(wait) => poll_one(wait, cx),
            None => unreachable!("set above"),
        }
    }
}

#[inline]
fn poll_one<P: HasEngine + Borrow<Pool>>(
    wait: Pin<&Wait<P>>,
    cx: &mut Context<'_>,
) -> Poll<Result<DirectBytesMut, ReserveError>> {
    let mut buffer = DirectBytesMut::new();
    let done = wait.poll(cx, |granted| buffer = whole(granted));
    Poll::Ready(match ready!(done) {
        Ok(()) => Ok(buffer),
        Err(why) => Err(wait.pool().borrow().refuse(wait.asked(), why)),
    })
}

pin_project! {
    /// A reservation that waits for its memory. From [`Pool::reserve`] and [`Pool::reserve_zeroed`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct Reserve<'a> {
        pool: &'a Pool,
        ask: Ask,
        // How many bytes of the buffer are to be zero when it is handed out.
        zeroed: usize,
        #[pin]
        wait: Option<Wait<&'a Pool>>,
    }
}

impl<'a> Reserve<'a> {
    #[track_caller]
    #[inline]
    fn new(pool: &'a Pool, n: usize, zeroed: usize) -> Self {
        Reserve {
            pool,
            ask: Ask::new(n),
            zeroed,
            wait: None,
        }
    }

    #[inline(never)]
    fn poll_slow(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<DirectBytesMut, ReserveError>> {
        let this = self.project();
        let mut buffer = ready!(this.ask.poll(|| *this.pool, this.wait, cx))?;
        if *this.zeroed > 0 {
            buffer.resize(*this.zeroed, 0);
        }
        Poll::Ready(Ok(buffer))
    }
}

impl Future for Reserve<'_> {
    type Output = Result<DirectBytesMut, ReserveError>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.zeroed == 0 {
            if let Some(buffer) = self.ask.at_once(self.pool, &self.wait) {
                return Poll::Ready(Ok(buffer));
            }
        }
        self.poll_slow(cx)
    }
}

pin_project! {
    /// A reservation that owns its pool. From [`Pool::reserve_owned`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct ReserveOwned {
        pool: Pool,
        ask: Ask,
        #[pin]
        wait: Option<Wait<Pool>>,
    }
}

impl Future for ReserveOwned {
    type Output = Result<DirectBytesMut, ReserveError>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(buffer) = self.ask.at_once(&self.pool, &self.wait) {
            return Poll::Ready(Ok(buffer));
        }
        let this = self.project();
        this.ask.poll(|| this.pool.clone(), this.wait, cx)
    }
}

pin_project! {
    /// A reservation of several buffers. From [`Pool::reserve_many`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct ReserveMany<'a> {
        #[pin]
        wait: Wait<&'a Pool>,
    }
}

impl Future for ReserveMany<'_> {
    type Output = Result<Vec<DirectBytesMut>, ReserveError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let wait = self.project().wait.into_ref();
        let mut buffers = Vec::new();
        let done = wait.poll(cx, |granted| buffers.push(whole(granted)));
        Poll::Ready(match ready!(done) {
            Ok(()) => Ok(buffers),
            Err(why) => Err(wait.pool().refuse(wait.asked(), why)),
        })
    }
}

pin_project! {
    /// A copy that waits for its memory. From [`Pool::copy_from_slice`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct CopyFromSlice<'a> {
        #[pin]
        reserve: Reserve<'a>,
        data: &'a [u8],
    }
}

impl Future for CopyFromSlice<'_> {
    type Output = Result<DirectBytes, ReserveError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut buffer = ready!(this.reserve.poll(cx))?;
        buffer.extend_from_slice(this.data);
        Poll::Ready(Ok(buffer.freeze()))
    }
}

/// A reservation for hand-written poll functions: `Unpin`, and used again and again.
///
/// # Examples
///
/// ```
/// use std::future::poll_fn;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let mut reserve = offheap::PollReserve::new(pool);
/// let first = poll_fn(|cx| reserve.poll_reserve(cx, 4096)).await?;
/// let second = poll_fn(|cx| reserve.poll_reserve(cx, 100)).await?;
/// assert!(first.capacity() >= 4096 && second.capacity() >= 100);
/// # Ok(())
/// # }
/// ```
pub struct PollReserve {
    pool: Pool,
    /// Made when first needed and kept: waiting again allocates nothing.
    wait: Option<Pin<Box<Wait<Pool>>>>,
    /// What the wait is for, while there is one.
    waiting: Option<usize>,
}

impl PollReserve {
    /// A reservation from `pool`, not yet in the queue.
    pub fn new(pool: Pool) -> Self {
        PollReserve {
            pool,
            wait: None,
            waiting: None,
        }
    }

    /// The pool that it reserves from.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// A buffer for at least `n` bytes, as [`Pool::reserve`].
    ///
    /// While it is pending it keeps its place in the queue. Asking for another `n` meanwhile gives the place up and joins at
    /// the end.
    ///
    /// # Errors
    ///
    /// As for [`Pool::reserve`].
    ///
    /// # Cancel safety
    ///
    /// [`cancel`](Self::cancel) and drop give up the place, or the grant, and lose nothing.
    #[track_caller]
    pub fn poll_reserve(
        &mut self,
        cx: &mut Context<'_>,
        n: usize,
    ) -> Poll<Result<DirectBytesMut, ReserveError>> {
        self.poll_beside(cx, n, 0)
    }

    /// The same for whoever keeps so many pages in use until it is served: what can not be had beside them fails.
    #[track_caller]
    pub(crate) fn poll_beside(
        &mut self,
        cx: &mut Context<'_>,
        n: usize,
        beside: u32,
    ) -> Poll<Result<DirectBytesMut, ReserveError>> {
        let ask = Ask::new(n);
        if self.waiting != Some(n) {
            self.cancel();
            if let Some(buffer) = ask.at_once(&self.pool, &self.waiting) {
                return Poll::Ready(Ok(buffer));
            }
        }
        let pool = &self.pool;
        let wait = self
            .wait
            .get_or_insert_with(|| Box::pin(Wait::new(pool.clone(), Claim::one(n, ask.site))));
        if self.waiting.is_none() {
            wait.as_mut().ask(Claim::beside(n, beside, ask.site));
            self.waiting = Some(n);
        }
        let done = ready!(poll_one(wait.as_ref(), cx));
        self.waiting = None;
        Poll::Ready(done)
    }

    /// Gives up the place in the queue, or the grant.
    pub fn cancel(&mut self) {
        if self.waiting.take().is_some() {
            if let Some(wait) = &mut self.wait {
                wait.as_mut().ask(Claim::one(0, Location::caller()));
            }
        }
    }
}

impl fmt::Debug for PollReserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollReserve")
            .field("pool", &self.pool)
            .field("waiting", &self.waiting)
            .finish()
    }
}

/// Panics in an asynchronous context.
#[track_caller]
pub(crate) fn assert_may_block() {
    // tokio knows whether this thread may block, but tells only by way of its own blocking calls. This one never waits.
    drop(tokio::sync::Mutex::const_new(()).blocking_lock());
}

/// A waker for a thread that parks.
pub(crate) fn unpark_this_thread() -> Waker {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.wake_by_ref();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            self.0.unpark();
        }
    }

    Waker::from(Arc::new(Unpark(thread::current())))
}

#[cfg(all(test, not(offheap_loom)))]
mod tests {
    use super::*;
    use crate::sync::LOCKS;

    fn locks(f: impl FnOnce()) -> u64 {
        let before = LOCKS.get();
        f();
        LOCKS.get() - before
    }

    /// Invariant 10: a drop takes no lock in calm, and one under pressure.
    #[test]
    fn locks_of_a_drop() {
        const N: usize = 16 << 10;
        let pool = Pool::builder().limit(8 * N).build().unwrap();
        let fill = || -> Vec<_> { std::iter::from_fn(|| pool.try_reserve(N).ok()).collect() };
        // The first drop opens the class; after some more the thread gets its own stack.
        (0..100).for_each(|_| drop(fill()));
        let calm = fill();
        assert_eq!(calm.len(), 8);
        assert_eq!(locks(|| drop(calm)), 0);

        let mut held = fill();
        let mut cx = Context::from_waker(Waker::noop());
        let mut waiters: Vec<_> = (0..held.len()).map(|_| Box::pin(pool.reserve(N))).collect();
        for waiter in &mut waiters {
            assert!(waiter.as_mut().poll(&mut cx).is_pending());
        }
        while let Some(buffer) = held.pop() {
            assert_eq!(locks(|| drop(buffer)), 1, "{} held", held.len());
        }
        for waiter in &mut waiters {
            assert!(waiter.as_mut().poll(&mut cx).is_ready());
        }
    }
}
