//! Four ways to send a file over a socket, side by side: read and write through a pooled buffer, `mmap` and write,
//! `sendfile`, and `splice`.
//!
//! `cargo run --release --example four_ways -- [--file PATH | --size 256MiB] [--rounds 5]` sends a real file over loopback each way in turn,
//! compares every byte that arrives with the file, and prints a table: how often the processor copies each byte on the sender's side, system
//! calls, CPU time of the sending thread, and throughput (medians of the rounds). Exit code 1: bytes were wrong.

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("four_ways: sendfile and splice are Linux's");
}
