//! Pipes for splicing, and a few of them kept for the next one.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::pipe::{fcntl_setpipe_size, pipe_with, PipeFlags};

/// What a pipe should hold; a user without privileges gets this much by default.
pub(super) const CAPACITY: usize = 1 << 20;
/// So many empty pipes are kept.
const KEPT: usize = 16;

static EMPTY: Mutex<Vec<Pipe>> = Mutex::new(Vec::new());

/// A pipe, and how many bytes are in it.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
    pub(super) filled: usize,
}

impl Pipe {
    /// An empty pipe.
    pub(super) fn take() -> io::Result<Pipe> {
        let kept = EMPTY.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(pipe) = kept {
            return Ok(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Where that is refused, because the user has many pipes, it works with less.
        let _ = fcntl_setpipe_size(&write, CAPACITY);
        Ok(Pipe {
            read,
            write,
            filled: 0,
        })
    }

    /// Keeps the pipe for others, if it is empty.
    pub(super) fn put_back(self) {
        let mut empty = EMPTY.lock().unwrap_or_else(PoisonError::into_inner);
        if self.filled == 0 && empty.len() < KEPT {
            empty.push(self);
        }
    }
}
