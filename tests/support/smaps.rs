//! What the kernel says about a range of addresses.

use std::fs;
use std::ops::Range;

/// Bytes of `range` that are resident, from `/proc/self/smaps`.
pub(crate) fn resident(range: &Range<usize>) -> u64 {
    sum(range, "Rss:")
}

/// Bytes of `range` that lie in huge pages.
#[allow(dead_code)]
pub(crate) fn huge(range: &Range<usize>) -> u64 {
    sum(range, "AnonHugePages:")
}

fn sum(range: &Range<usize>, field: &str) -> u64 {
    let smaps = fs::read_to_string("/proc/self/smaps").expect("/proc/self/smaps");
    let mut inside = false;
    let mut bytes = 0;
    for line in smaps.lines() {
        let word = line.split_ascii_whitespace().next().unwrap_or_default();
        if let Some((start, end)) = word.split_once('-') {
            let address = |text| usize::from_str_radix(text, 16);
            if let (Ok(start), Ok(end)) = (address(start), address(end)) {
                // Guard pages lie around the range, so a mapping with memory is either inside or outside.
                inside = start < range.end && end > range.start;
            }
        } else if let Some(rest) = line.strip_prefix(field).filter(|_| inside) {
            let kib = rest.trim().trim_end_matches("kB").trim();
            bytes += kib.parse::<u64>().expect("a number of kB") << 10;
        }
    }
    bytes
}
