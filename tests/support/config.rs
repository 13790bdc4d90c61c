//! How many cases a property is tried with.

use proptest::prelude::ProptestConfig;

/// A `share`th of `PROPTEST_CASES`, or of 256: properties that start threads or ask the kernel are tried less often.
pub(crate) fn cases(share: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig {
        cases: config.cases.div_ceil(share),
        // A failing case is printed; files with old cases belong to no one.
        failure_persistence: None,
        ..config
    }
}
