//! Each sanitizer is shown a planted fault in a child process, and has to report it: a sanitizer that sees nothing inside a pool's
//! memory would let all other tests pass.
//!
//! Built by `.ci/sanitize`, which sets the cfg; without one there is nothing here.

#![cfg(any(offheap_asan, offheap_msan, offheap_tsan, offheap_valgrind))]

use std::process::{Command, Output};

use offheap::{DirectBytesMut, Pool};

const BLOCK: usize = 16 << 10;

/// Runs one of the ignored tests below on its own.
fn run(name: &str) -> Output {
    let this = std::env::current_exe().unwrap();
    let mut command = if cfg!(offheap_valgrind) {
        let mut valgrind = Command::new("valgrind");
        valgrind
            .args(["--quiet", "--error-exitcode=99", "--leak-check=full"])
            .args([
                "--errors-for-leak-kinds=definite",
                "--show-leak-kinds=definite",
            ])
            .arg(this);
        valgrind
    } else {
        Command::new(this)
    };
    // The harness would swallow what the sanitizer says.
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    command.output().unwrap()
}

#[allow(dead_code)]
fn is_reported(name: &str, report: &str) {
    let output = run(name);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{name} went unnoticed: {said}");
    assert!(said.contains(report), "{name}: no {report:?} in {said}");
}

/// What is said of accesses to address space of ours that nobody may touch.
#[allow(dead_code)]
const STALE: &str = if cfg!(offheap_valgrind) {
    "Invalid"
} else {
    "use-after-poison"
};

#[test]
fn without_a_fault_nothing_is_reported() {
    let output = run("planted_nothing");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
#[cfg(any(offheap_asan, offheap_valgrind))]
fn accesses_to_dropped_blocks_are_reported() {
    is_reported("planted_stale_read", STALE);
    is_reported("planted_stale_write", STALE);
    is_reported("planted_access_through_bytes_that_went", STALE);
}

#[test]
#[cfg(any(offheap_asan, offheap_valgrind))]
fn overruns_into_a_neighbour_are_reported() {
    is_reported("planted_overrun_into_a_queued_neighbour", STALE);
    is_reported("planted_overrun_into_a_neighbour_never_used", STALE);
}

#[test]
#[cfg(any(offheap_asan, offheap_valgrind))]
fn leaks_are_reported() {
    let leak = if cfg!(offheap_valgrind) {
        "definitely lost"
    } else {
        "detected memory leaks"
    };
    is_reported("planted_leak", leak);
}

#[test]
#[cfg(any(offheap_msan, offheap_valgrind))]
fn decisions_by_uninitialised_bytes_are_reported() {
    let report = if cfg!(offheap_valgrind) {
        "depends on uninitialised"
    } else {
        "use-of-uninitialized-value"
    };
    is_reported("planted_read_of_what_was_never_written", report);
    is_reported("planted_read_of_what_another_wrote", report);
}

#[test]
#[cfg(offheap_tsan)]
fn races_are_reported() {
    is_reported("planted_race", "data race");
}

// ---- the faults -----------------------------------------------------------------------------------------------------

fn pool() -> Pool {
    Pool::builder().limit(64 * BLOCK).build().unwrap()
}

fn filled(pool: &Pool) -> DirectBytesMut {
    let mut buffer = pool.try_reserve(BLOCK).unwrap();
    buffer.resize(buffer.capacity(), 7);
    buffer
}

/// Two blocks that lie side by side.
#[allow(dead_code)]
fn neighbours(pool: &Pool) -> (DirectBytesMut, DirectBytesMut) {
    let mut buffers: Vec<_> = (0..8).map(|_| filled(pool)).collect();
    buffers.sort_by_key(|buffer| buffer.as_ptr() as usize);
    let second = buffers.pop().unwrap();
    let first = buffers.pop().unwrap();
    assert_eq!(
        first.as_ptr() as usize + first.block_len(),
        second.as_ptr() as usize
    );
    (first, second)
}

#[test]
#[ignore = "run by the tests above"]
fn planted_nothing() {
    let pool = pool();
    let (mut first, second) = neighbours(&pool);
    drop(second);
    first.fill(8);
    pool.trim();
    let again = filled(&pool);
    assert!(again.iter().all(|&byte| byte == 7));
    let bytes = first.freeze();
    let part = bytes.slice(BLOCK - 1..);
    drop(bytes);
    assert_eq!(part[0], 8);
    std::thread::spawn(move || drop(part)).join().unwrap();
}

#[test]
#[ignore = "a planted fault"]
fn planted_stale_read() {
    let pool = pool();
    let buffer = filled(&pool);
    let start = buffer.as_ptr();
    drop(buffer);
    // SAFETY: none; that is the point. The address is still mapped.
    let byte = unsafe { start.add(100).read_volatile() };
    println!("{byte}");
}

#[test]
#[ignore = "a planted fault"]
fn planted_stale_write() {
    let pool = pool();
    let mut buffer = filled(&pool);
    let start = buffer.as_mut_ptr();
    drop(buffer);
    // SAFETY: none; that is the point. The address is still mapped.
    unsafe { start.write_volatile(1) };
}

#[test]
#[ignore = "a planted fault"]
fn planted_access_through_bytes_that_went() {
    let pool = pool();
    let bytes = bytes::Bytes::from(filled(&pool));
    let part = bytes.slice(10..20);
    let start = part.as_ptr();
    drop(bytes);
    drop(part);
    // SAFETY: none; that is the point. The address is still mapped.
    let byte = unsafe { start.read_volatile() };
    println!("{byte}");
}

#[test]
#[ignore = "a planted fault"]
fn planted_overrun_into_a_queued_neighbour() {
    let pool = pool();
    let (mut first, second) = neighbours(&pool);
    drop(second);
    // SAFETY: none; that is the point. The address is still mapped.
    unsafe { first.as_mut_ptr().add(first.capacity()).write_volatile(1) };
}

#[test]
#[ignore = "a planted fault"]
fn planted_overrun_into_a_neighbour_never_used() {
    let pool = pool();
    let (_, mut last) = neighbours(&pool);
    // SAFETY: none; that is the point. The address is mapped ahead, or, on the heap, nobody's.
    unsafe { last.as_mut_ptr().add(last.capacity()).write_volatile(1) };
}

#[test]
#[ignore = "a planted fault"]
fn planted_leak() {
    let leaked = Box::leak(Box::new([7_u8; 1000]));
    println!("{}", std::hint::black_box(&leaked)[999]);
    // Nor may a register or this frame know where it was.
    let _ = std::hint::black_box([0_usize; 64]);
}

#[test]
#[ignore = "a planted fault"]
fn planted_read_of_what_was_never_written() {
    let pool = pool();
    let mut buffer = pool.try_reserve(BLOCK).unwrap();
    // SAFETY: none; that is the point: below the capacity, but never written.
    unsafe { buffer.set_len(BLOCK) };
    if buffer[100] == 7 {
        println!("seven");
    }
}

#[test]
#[ignore = "a planted fault"]
fn planted_read_of_what_another_wrote() {
    let pool = pool();
    let first = filled(&pool);
    let start = first.as_ptr();
    drop(first);
    let mut buffer = pool.try_reserve(BLOCK).unwrap();
    assert_eq!(buffer.as_ptr(), start, "the same block");
    // SAFETY: none; that is the point: the bytes are those of who had the block before.
    unsafe { buffer.set_len(BLOCK) };
    if buffer[100] == 7 {
        println!("seven");
    }
}

#[test]
#[ignore = "a planted fault"]
fn planted_race() {
    let pool = pool();
    let mut buffer = filled(&pool);
    let start = buffer.as_mut_ptr() as usize;
    let other = std::thread::spawn(move || {
        for i in 0..1000 {
            // SAFETY: none; that is the point: the buffer is not this thread's.
            unsafe { (start as *mut u8).write_volatile(i as u8) };
        }
    });
    for i in 0..1000 {
        buffer[0] = i as u8;
    }
    other.join().unwrap();
}
