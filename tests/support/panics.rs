//! Panics that are expected, and so are not printed.

use std::cell::Cell;
use std::panic::{self, catch_unwind, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// None where it panics.
pub(crate) fn attempt<T>(f: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !EXPECTED.with(Cell::get) {
                before(info);
            }
        }));
    });
    let before = EXPECTED.with(|expected| expected.replace(true));
    let result = catch_unwind(AssertUnwindSafe(f));
    EXPECTED.with(|expected| expected.set(before));
    result.ok()
}

/// Runs both; either both panic, or none.
#[allow(dead_code)]
pub(crate) fn both<T, U>(ours: impl FnOnce() -> T, theirs: impl FnOnce() -> U) -> Option<(T, U)> {
    let (ours, theirs) = (attempt(ours), attempt(theirs));
    assert_eq!(ours.is_some(), theirs.is_some(), "only one of them panics");
    ours.zip(theirs)
}
