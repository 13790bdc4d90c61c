//! Sets the cfg under which the core's files take their atomics and locks from loom. Here and not in RUSTFLAGS: tokio and
//! others must not see it, and nobody's environment can leave it out.

fn main() {
    println!("cargo::rustc-cfg=offheap_loom");
    println!("cargo::rerun-if-changed=build.rs");
}
