//! Sets the cfg under which the crate takes its atomics and locks from the simulated machine. Here and not in RUSTFLAGS: others must
//! not see it.

fn main() {
    println!("cargo::rustc-cfg=offheap_counted");
    println!("cargo::rerun-if-changed=build.rs");
}
