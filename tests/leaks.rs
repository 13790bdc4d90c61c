//! Reports of what is left, and the guard that fails a test.

use std::panic::{catch_unwind, AssertUnwindSafe};

use offheap::{LeakGuard, Pool};

#[test]
fn the_report_names_who_holds_what() {
    let pool = Pool::builder()
        .name("leaky")
        .limit(1 << 20)
        .build()
        .unwrap();
    assert_eq!(
        pool.leak_report().to_string(),
        "pool \"leaky\" has all its buffers back"
    );
    let line = line!() + 1;
    let held: Vec<_> = (0..3).map(|_| pool.try_reserve(5000).unwrap()).collect();
    let report = pool.leak_report();
    assert_eq!((report.buffers, report.holders.len()), (3, 1));
    assert_eq!(report.bytes as usize, 3 * held[0].block_len());
    let text = report.to_string();
    assert!(
        text.starts_with("pool \"leaky\" still has 3 buffers, "),
        "{text}"
    );
    assert!(text.contains(&format!("{}:{line}", file!())), "{text}");
    drop(held);
    assert!(pool.leak_report().is_empty());
}

#[test]
fn the_guard_fails_when_something_is_left_and_only_then() {
    let pool = Pool::builder().limit(1 << 20).build().unwrap();
    {
        let _guard = LeakGuard::new(&pool);
        let mut buf = pool.try_reserve(5000).unwrap();
        // What is only to be cleaned is no leak.
        buf.on_clean(|memory| memory.fill(0));
    }
    let guard = LeakGuard::new(&pool);
    let held = pool.try_reserve(5000).unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| drop(guard))).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(
        text.contains("1 buffer,") && text.contains(file!()),
        "{text}"
    );
    // While the thread panics for another reason, that one is told.
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let _guard = LeakGuard::new(&pool);
        std::panic::resume_unwind(Box::new("the reason"));
    }));
    assert_eq!(
        panic.unwrap_err().downcast_ref::<&str>(),
        Some(&"the reason")
    );
    drop(held);
}
