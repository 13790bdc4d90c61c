//! A reservation that is polled until it is served, and keeps its place meanwhile.

use std::io;
use std::task::{ready, Context, Poll};

use super::pace::Pace;
use crate::{DirectBytesMut, PollReserve, Pool, ReserveError};

#[derive(Debug)]
pub(super) struct Ask {
    reserve: PollReserve,
    /// What the reservation that waits asks for.
    asked: Option<usize>,
}

impl Ask {
    pub(super) fn new(pool: &Pool) -> Self {
        Ask {
            reserve: PollReserve::new(pool.clone()),
            asked: None,
        }
    }

    pub(super) fn pool(&self) -> &Pool {
        self.reserve.pool()
    }

    /// It stands in the queue, or has been granted what nobody has taken yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.asked.is_some()
    }

    /// Gives up the place in the queue, or the grant.
    pub(super) fn cancel(&mut self) {
        if self.asked.take().is_some() {
            self.reserve.cancel();
        }
    }

    /// Memory for `n` bytes, which counts as reserved by the caller; while it waits, for as many as it was first asked for.
    #[track_caller]
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        n: usize,
    ) -> Poll<Result<DirectBytesMut, ReserveError>> {
        let asked = *self.asked.get_or_insert(n);
        let reserved = ready!(self.reserve.poll_reserve(cx, asked));
        self.asked = None;
        Poll::Ready(reserved)
    }

    /// [`poll`](Self::poll) for whoever keeps `held` until it is served: what can never be had beside that is an error.
    #[track_caller]
    pub(super) fn poll_beside(
        &mut self,
        cx: &mut Context<'_>,
        n: usize,
        held: &DirectBytesMut,
    ) -> Poll<Result<DirectBytesMut, ReserveError>> {
        let asked = *self.asked.get_or_insert(n);
        let beside = match held.beside(asked) {
            Ok(beside) => beside,
            Err(error) => {
                self.cancel();
                return Poll::Ready(Err(error));
            }
        };
        let reserved = ready!(self.reserve.poll_beside(cx, asked, beside));
        self.asked = None;
        Poll::Ready(reserved)
    }

    /// [`poll`](Self::poll), for less where the limit was lowered meanwhile: then the pace follows it.
    #[track_caller]
    pub(super) fn poll_paced(
        &mut self,
        cx: &mut Context<'_>,
        n: usize,
        pace: &Pace,
    ) -> Poll<io::Result<DirectBytesMut>> {
        let mut n = n;
        loop {
            let asked = self.asked.unwrap_or(n);
            match ready!(self.poll(cx, n)) {
                Err(ReserveError::TooLarge { .. }) if pace.size(self.pool()) < asked => {
                    n = pace.size(self.pool());
                }
                reserved => return Poll::Ready(reserved.map_err(io::Error::from)),
            }
        }
    }
}
