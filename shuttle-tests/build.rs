//! Sets the cfgs under which the core's files take their atomics and locks from shuttle: here and not in RUSTFLAGS, as `loom-tests`
//! does. What is smaller under a model checker goes by loom's cfg.

fn main() {
    println!("cargo::rustc-cfg=offheap_loom");
    println!("cargo::rustc-cfg=offheap_shuttle");
    println!("cargo::rerun-if-changed=build.rs");
}
