//! What users want done with a block after its last drop: hooks that see its memory, and tokens that say that it is gone.
//!
//! All of it is user code, so it runs where nothing of ours can be hurt: without a lock, not in a drop, and so that a panic
//! is caught, counted and reported, and loses nothing else.

use std::any::Any;
use std::fmt;
use std::panic::{catch_unwind, AssertUnwindSafe, Location};
use std::ptr::NonNull;
use std::slice;

use crate::budget::discard;

/// What is to be done with one block, in order of registration.
#[derive(Default)]
pub(crate) struct Jobs {
    pub(crate) hooks: Vec<Hook>,
    pub(crate) tokens: Vec<Token>,
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs")
            .field("hooks", &self.hooks.len())
            .field("tokens", &self.tokens.len())
            .finish()
    }
}

/// What a user wants to be done with a block's memory.
type Run = Box<dyn FnOnce(&mut [u8]) + Send>;

/// A hook, and the line of code that registered it.
pub(crate) struct Hook {
    pub(crate) run: Run,
    pub(crate) site: &'static Location<'static>,
}

/// Delivers a token.
pub(crate) struct Token {
    pub(crate) deliver: Box<dyn FnOnce() + Send>,
    pub(crate) site: &'static Location<'static>,
}

/// Either of them.
pub(crate) enum Job {
    Hook(Hook),
    Token(Token),
}

impl Jobs {
    pub(crate) fn push(&mut self, job: Job) {
        match job {
            Job::Hook(hook) => self.hooks.push(hook),
            Job::Token(token) => self.tokens.push(token),
        }
    }
}

impl Job {
    /// For a buffer that has no block: there is nothing to wait for.
    pub(crate) fn run_now(self) {
        match self {
            Job::Hook(hook) => (hook.run)(&mut []),
            Job::Token(token) => (token.deliver)(),
        }
    }
}

/// Something of the user's panicked, or took too long, where it could hurt nobody. See
/// [`PoolBuilder::on_fault`](crate::PoolBuilder::on_fault).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Fault {
    /// What it was.
    pub kind: FaultKind,
    /// The line of code that registered it.
    pub location: &'static Location<'static>,
    /// What the panic said, where it was text.
    pub message: Option<String>,
}

/// What it was that went wrong: see [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// A cleaning hook panicked. The memory was reclaimed all the same.
    HookPanicked,
    /// Whoever waits on a reference queue panicked when it was woken, or a token when it was dropped.
    TokenPanicked,
    /// A callback for pressure panicked. It is called again at the next occasion.
    PressurePanicked,
    /// A callback for pressure took longer than a tenth of a second.
    PressureSlow,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            FaultKind::HookPanicked => "a cleaning hook panicked",
            FaultKind::TokenPanicked => "the delivery of a token panicked",
            FaultKind::PressurePanicked => "a callback for pressure panicked",
            FaultKind::PressureSlow => "a callback for pressure was slow",
        };
        write!(f, "{what}; registered at {}", self.location)?;
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

/// What a pool does with faults.
pub(crate) type FaultHandler = std::sync::Arc<dyn Fn(&Fault) + Send + Sync>;

/// Runs user code; a panic becomes its message.
pub(crate) fn contain<R>(f: impl FnOnce() -> R) -> Result<R, Option<String>> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let message = message_of(&*payload);
        discard(payload);
        message
    })
}

fn message_of(payload: &(dyn Any + Send)) -> Option<String> {
    let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
}

/// Shows a block's memory to a hook.
///
/// # Safety
///
/// `start..start + size` is a block that belongs to the caller alone.
pub(crate) unsafe fn show<'a>(start: NonNull<u8>, size: usize) -> &'a mut [u8] {
    initialised(start);
    // SAFETY: the caller owns the block; its pages were zero when they came, so that each byte has a value.
    unsafe { slice::from_raw_parts_mut(start.as_ptr(), size) }
}

/// The memory came zeroed, but safe code may have copied uninitialised values to a buffer's spare capacity. What they mean to the
/// compiler ends where it can not look: after this every byte has the value that the machine has there.
fn initialised(start: NonNull<u8>) {
    #[cfg(all(
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64"
        ),
        not(miri)
    ))]
    // SAFETY: does nothing; for all that the compiler knows it writes to the memory that the pointer leads to.
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) start.as_ptr(), options(nostack, preserves_flags));
    }
    #[cfg(not(all(
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64"
        ),
        not(miri)
    )))]
    std::hint::black_box(start);
}
