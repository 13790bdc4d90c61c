//! Files without the page cache: `O_DIRECT`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::io::fill::read_at;
use crate::{DirectBytes, DirectBytesMut, Pool};

/// A file that is read into, and written from, page-aligned pooled buffers past the page cache.
///
/// Use a pool built with [`page_aligned(true)`](crate::PoolBuilder::page_aligned). Offsets and lengths need no alignment:
/// whole pages around the range are read, and what was asked for is handed out as a slice of them. Of a write, the whole pages go past the
/// page cache, and what is left over at the end goes through it.
///
/// Calls run on tokio's threads for blocking work. One that is dropped runs to its end there; its buffer comes back then.
///
/// # Where the file system refuses
///
/// Then everything goes through the page cache, and [`fallback`](Self::fallback) says why.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use offheap::io::DirectFile;
///
/// let pool = offheap::Pool::builder().limit(1 << 20).page_aligned(true).build()?;
/// let path = std::env::temp_dir().join(format!("offheap-direct-{}", std::process::id()));
/// let file = DirectFile::create(&path)?;
/// if let Some(why) = file.fallback() {
///     eprintln!("through the page cache: {why}");
/// }
/// file.write_at(pool.try_copy_from_slice(&[7; 10_000])?, 0).await?;
/// assert_eq!(file.read_at(&pool, 9_000, 5_000).await?, [7; 1_000][..]);
/// # std::fs::remove_file(&path)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct DirectFile {
    files: Arc<Files>,
}

#[derive(Debug)]
struct Files {
    /// Past the page cache, or why not.
    direct: Result<File, String>,
    /// It was opened, and refused a call.
    refused: OnceLock<String>,
    /// Through the page cache, for what is not aligned.
    plain: File,
}

impl DirectFile {
    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// Those of `open`; that the file system refuses `O_DIRECT` is not one.
    pub fn open(path: impl AsRef<Path>) -> io::Result<DirectFile> {
        Self::with_options(path.as_ref(), OpenOptions::new().read(true))
    }

    /// Opens a file for reading and writing; makes one where there is none.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn create(path: impl AsRef<Path>) -> io::Result<DirectFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        Self::with_options(path.as_ref(), &options)
    }

    fn with_options(path: &Path, options: &OpenOptions) -> io::Result<DirectFile> {
        let plain = options.open(path)?;
        let opened = options.clone().custom_flags(libc::O_DIRECT).open(path);
        let direct = match opened {
            Ok(file) => Ok(file),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(format!(
                "the file system of {} refuses O_DIRECT ({error})",
                path.display()
            )),
            Err(error) => return Err(error),
        };
        let refused = OnceLock::new();
        let files = Arc::new(Files {
            direct,
            refused,
            plain,
        });
        Ok(DirectFile { files })
    }

    /// Why everything goes through the page cache; `None` where it does not.
    pub fn fallback(&self) -> Option<&str> {
        let refused = || self.files.refused.get();
        let why = self.files.direct.as_ref().err().or_else(refused);
        why.map(String::as_str)
    }

    /// The file's length in bytes.
    ///
    /// # Errors
    ///
    /// Those of `fstat`.
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.files.plain.metadata()?.len())
    }

    /// Whether the file is empty.
    ///
    /// # Errors
    ///
    /// Those of `fstat`.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads up to `len` bytes at `offset`; fewer at the end of the file, none behind it. Waits for memory as
    /// [`Pool::reserve`] does: for the whole pages around the range.
    ///
    /// # Errors
    ///
    /// Those of `pread` and of [`Pool::reserve`]; `InvalidInput` where the pool's buffers are not page-aligned.
    pub async fn read_at(&self, pool: &Pool, offset: u64, len: usize) -> io::Result<DirectBytes> {
        if len == 0 {
            return Ok(DirectBytes::new());
        }
        let page = rustix::param::page_size() as u64;
        let start = offset - offset % page;
        let skip = (offset - start) as usize;
        let whole = skip
            .checked_add(len)
            .and_then(|n| n.checked_next_multiple_of(page as usize))
            .ok_or_else(|| too_much(offset, len))?;
        let mut buffer = pool.reserve(whole).await?;
        check_alignment(pool, buffer.as_ptr())?;
        let files = self.files.clone();
        let buffer = blocking(move || {
            files.read(&mut buffer, whole, start)?;
            Ok(buffer)
        })
        .await?;
        let have = buffer.len();
        let bytes = buffer.freeze();
        Ok(bytes.slice(skip.min(have)..(skip + len).min(have)))
    }

    /// Writes all of `data` at `offset`.
    ///
    /// Whole pages go past the page cache where `data` and `offset` begin on a page.
    ///
    /// # Errors
    ///
    /// Those of `pwrite`: `StorageFull` where the disk is full. How much was written before is not known then.
    pub async fn write_at(&self, data: DirectBytes, offset: u64) -> io::Result<()> {
        offset
            .checked_add(data.len() as u64)
            .filter(|&end| i64::try_from(end).is_ok())
            .ok_or_else(|| too_much(offset, data.len()))?;
        let files = self.files.clone();
        blocking(move || files.write(&data, offset)).await
    }

    /// Waits until all that was written is on the disk.
    ///
    /// # Errors
    ///
    /// Those of `fsync`.
    pub async fn sync_all(&self) -> io::Result<()> {
        let files = self.files.clone();
        blocking(move || files.plain.sync_all()).await
    }
}

fn too_much(offset: u64, len: usize) -> io::Error {
    let text = format!("{len} bytes at {offset} are more than a file can have");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn check_alignment(pool: &Pool, start: *const u8) -> io::Result<()> {
    if start as usize % rustix::param::page_size() == 0 {
        return Ok(());
    }
    let text = format!(
        "the buffers of pool {:?} do not begin on a page, which O_DIRECT needs; build it with `page_aligned(true)`",
        pool.name()
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|gone| Err(io::Error::other(gone)))
}

impl Files {
    /// The file past the page cache, unless there is none.
    fn direct(&self) -> Option<&File> {
        let file = self.direct.as_ref().ok();
        file.filter(|_| self.refused.get().is_none())
    }

    /// Notes that the file system refused a call which was aligned to pages; whether that is what happened.
    fn is_refusal(&self, error: &io::Error) -> bool {
        let refused = error.raw_os_error() == Some(libc::EINVAL);
        if refused {
            let why = || format!("the file system refuses I/O aligned to pages ({error})");
            self.refused.get_or_init(why);
        }
        refused
    }

    /// Reads until the buffer has `whole` bytes, or the file ends. All are multiples of a page.
    fn read(&self, buffer: &mut DirectBytesMut, whole: usize, start: u64) -> io::Result<()> {
        let page = rustix::param::page_size();
        while buffer.len() < whole {
            let at = start + buffer.len() as u64;
            let most = whole - buffer.len();
            // A short read ends off a page only at the end of the file.
            let direct = self.direct().filter(|_| buffer.len() % page == 0);
            let file = direct.unwrap_or(&self.plain);
            match read_at(file.as_fd(), buffer, most, at) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if direct.is_some() && self.is_refusal(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let page = rustix::param::page_size();
        let aligned = data.as_ptr() as usize % page == 0 && offset % page as u64 == 0;
        let mut written = 0;
        if let Some(file) = self.direct().filter(|_| aligned) {
            let whole = data.len() - data.len() % page;
            match file.write_all_at(&data[..whole], offset) {
                Ok(()) => written = whole,
                Err(error) if self.is_refusal(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.plain
            .write_all_at(&data[written..], offset + written as u64)
    }
}
