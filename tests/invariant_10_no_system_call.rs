//! Invariant 10, drop is cheap: no system call, in calm and under pressure.
//!
//! Not seen by what it leaves behind, but forbidden: a child process does the work under the kernel's strict seccomp mode, where a thread may
//! read, write and end, and is killed for anything else.
#![cfg(target_os = "linux")]

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/starved.rs"]
mod starved;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::process::{self, Command, Stdio};
use std::{env, thread};

use offheap::{DirectBytesMut, Pool};

use by_hand::ByHand;
use starved::starved;

/// Set in the child.
const CHILD: &str = "OFFHEAP_TEST_STRICT";
const BLOCK: usize = 16 << 10;
const BLOCKS: usize = 64;
const DONE: &[u8] = b"nothing was called";

#[test]
fn drops_call_no_system() {
    if let Ok(how) = env::var(CHILD) {
        let strict = thread::spawn(move || strictly(how == "break"));
        // It ends without a word to std, which panics over that.
        let _ = catch_unwind(AssertUnwindSafe(|| strict.join()));
        process::exit(0);
    }
    assert!(said(""), "something was called");
    // The mode does what it is said to.
    assert!(!said("break"), "a call went unnoticed");
}

/// Whether a child came to its end.
fn said(how: &str) -> bool {
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "drops_call_no_system", "--nocapture"])
        .env(CHILD, how)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    child.stdout.windows(DONE.len()).any(|part| part == DONE)
}

fn strictly(call: bool) -> ! {
    let (pool, _runtime) = starved(Pool::builder().limit(BLOCKS * BLOCK));
    let fill =
        || -> Vec<DirectBytesMut> { std::iter::from_fn(|| pool.try_reserve(BLOCK).ok()).collect() };
    let mut calm = fill();
    assert_eq!(calm.len(), BLOCKS);
    // From its first drops on, the class is open, and the thread has its own stack there.
    for _ in 0..4 {
        calm.clear();
        calm = fill();
    }
    let (other, _other_runtime) = starved(Pool::builder().limit(BLOCKS * BLOCK));
    let mut held: Vec<_> = std::iter::from_fn(|| other.try_reserve(BLOCK).ok()).collect();
    let mut waiters: Vec<_> = (0..BLOCKS)
        .map(|_| ByHand::new(Box::pin(other.reserve(BLOCK))))
        .collect();
    assert!(waiters.iter_mut().all(|waiter| waiter.poll().is_pending()));

    // SAFETY: from here on this thread may read, write and end; and no more is done.
    let strict = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
    if strict != 0 {
        process::abort();
    }
    if call {
        // SAFETY: asks for a number, and is killed for it.
        unsafe { libc::getppid() };
    }
    // In calm: out of the magazine and back, all of them and one by one.
    calm.clear();
    for _ in 0..1000 {
        drop(pool.try_reserve(BLOCK));
    }
    // Under pressure: each drop hands its block over.
    held.clear();
    let woken = waiters.iter().all(ByHand::take_woken);
    // SAFETY: the text is there; ending the whole process is not allowed, and is left to who waits for this thread.
    unsafe {
        if woken {
            libc::write(1, DONE.as_ptr().cast(), DONE.len());
        }
        libc::syscall(libc::SYS_exit, 0);
    }
    unreachable!("the thread has ended")
}
