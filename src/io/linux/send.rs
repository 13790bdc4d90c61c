//! From file to socket without entering this process: `sendfile`, and `splice` through a pipe.

use std::fs::File;
use std::future::Future;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use tokio::io::Interest;

use super::pipe::{Pipe, CAPACITY};
use super::socket::{poll_call, Socket};
use super::splice::step;

/// At most this much by one call: the kernel's own bound is 2 GiB.
const AT_ONCE: u64 = 1 << 30;

/// Sends a part of a file by `sendfile`: from the page cache to the socket, without a buffer; answers how many bytes that were.
///
/// The range counts in bytes from the beginning of the file; without an end it goes to where the file ends now. The file's
/// own position is neither used nor moved. The socket is waited for as usual, but where a part of the file is not in the page cache, the
/// call waits for the disk, and the thread with it.
///
/// # Errors
///
/// Those of file and socket; `UnexpectedEof` where the file has become shorter, with both lengths in the text;
/// `InvalidInput` for a range that ends before it begins.
///
/// # Cancel safety
///
/// [`SendFile::moved`] says how many bytes the socket has taken; a new call can go on from there.
///
/// # Examples
///
/// ```
/// use std::io::Write;
///
/// use tokio::io::AsyncReadExt;
/// use tokio::net::UnixStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let path = std::env::temp_dir().join(format!("offheap-send-{}", std::process::id()));
/// let mut file = std::fs::File::create_new(&path)?;
/// file.write_all(b"hello world")?;
/// let file = std::fs::File::open(&path)?;
/// # std::fs::remove_file(&path)?;
///
/// let (here, mut there) = UnixStream::pair()?;
/// assert_eq!(offheap::io::send_file(&file, 6.., &here).await?, 5);
/// let mut word = [0; 5];
/// there.read_exact(&mut word).await?;
/// assert_eq!(&word, b"world");
/// # Ok(())
/// # }
/// ```
pub fn send_file<'a, S: Socket>(
    file: &'a File,
    range: impl RangeBounds<u64>,
    socket: &'a S,
) -> SendFile<'a, S> {
    SendFile::new(file, range, socket, Via::Call)
}

/// [`send_file`] by `splice` through a pipe, which can be faster where the file is in the page cache. It holds a pipe, up to 1 MiB of
/// the kernel's memory, until it is done. In the rest it is the same.
pub fn splice_file<'a, S: Socket>(
    file: &'a File,
    range: impl RangeBounds<u64>,
    socket: &'a S,
) -> SendFile<'a, S> {
    SendFile::new(file, range, socket, Via::Pipe(None))
}

/// A part of a file on its way to a socket. From [`send_file`] and [`splice_file`].
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct SendFile<'a, S> {
    file: &'a File,
    socket: &'a S,
    /// What is still to be taken from the file. None: the range is to be looked at first.
    range: Option<Range<u64>>,
    asked: (Bound<u64>, Bound<u64>),
    via: Via,
    moved: u64,
    calls: u64,
}

#[derive(Debug)]
enum Via {
    Call,
    Pipe(Option<Pipe>),
}

impl<'a, S> SendFile<'a, S> {
    fn new(file: &'a File, range: impl RangeBounds<u64>, socket: &'a S, via: Via) -> Self {
        SendFile {
            file,
            socket,
            range: None,
            asked: (range.start_bound().cloned(), range.end_bound().cloned()),
            via,
            moved: 0,
            calls: 0,
        }
    }

    /// Bytes that the socket has taken so far.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// System calls that moved bytes, or tried to, so far.
    pub fn calls(&self) -> u64 {
        self.calls
    }
}

/// The bounds as offsets; without an end it is the length of the file.
pub(super) fn offsets(
    (start, end): (Bound<u64>, Bound<u64>),
    len: impl FnOnce() -> io::Result<u64>,
) -> io::Result<Range<u64>> {
    let start = match start {
        Bound::Included(at) => at,
        Bound::Excluded(at) => at.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match end {
        Bound::Included(at) => at.saturating_add(1),
        Bound::Excluded(at) => at,
        Bound::Unbounded => len()?.max(start),
    };
    if end < start {
        let text = format!("the range {start}..{end} ends before it begins");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(start..end)
}

/// The file ended before the range did.
pub(super) fn too_short(at: u64, end: u64) -> io::Error {
    let text =
        format!("the file has become shorter: it ended at {at} bytes, and {end} were to be sent");
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

impl<S: Socket> Future for SendFile<'_, S> {
    type Output = io::Result<u64>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let this = self.get_mut();
        let file = this.file;
        let range = match &mut this.range {
            Some(range) => range,
            none => none.insert(offsets(this.asked, || Ok(file.metadata()?.len()))?),
        };
        loop {
            let left = (range.end - range.start).min(AT_ONCE) as usize;
            let mut calls = 0;
            let sent = match &mut this.via {
                Via::Call if left == 0 => return Poll::Ready(Ok(this.moved)),
                Via::Call => poll_call(this.socket, cx, Interest::WRITABLE, || {
                    calls += 1;
                    let at = &mut range.start;
                    Ok(rustix::fs::sendfile(this.socket, file, Some(at), left)?)
                }),
                Via::Pipe(pipe) => {
                    let pipe = match pipe {
                        Some(pipe) => pipe,
                        none => none.insert(Pipe::take()?),
                    };
                    if pipe.filled == 0 && left > 0 {
                        this.calls += 1;
                        let at = Some(&mut range.start);
                        pipe.filled = step(file.as_fd(), at, &pipe.write, left.min(CAPACITY))?;
                    }
                    if left == 0 && pipe.filled == 0 {
                        if let Via::Pipe(Some(pipe)) = std::mem::replace(&mut this.via, Via::Call) {
                            pipe.put_back();
                        }
                        return Poll::Ready(Ok(this.moved));
                    }
                    match pipe.filled {
                        0 => Poll::Ready(Ok(0)),
                        filled => {
                            let sent = poll_call(this.socket, cx, Interest::WRITABLE, || {
                                calls += 1;
                                step(&pipe.read, None, this.socket, filled)
                            });
                            if let Poll::Ready(Ok(n)) = sent {
                                pipe.filled -= n;
                            }
                            sent
                        }
                    }
                }
            };
            this.calls += calls;
            match ready!(sent)? {
                0 => return Poll::Ready(Err(too_short(range.start, range.end))),
                n => this.moved += n as u64,
            }
        }
    }
}
