//! How much memory the kernel says is behind a range of addresses.

use std::fs;
use std::ops::Range;

/// Resident bytes of the mappings inside `range`, from `/proc/self/smaps`. `None` where there is no such file, and for
/// pools whose memory comes from the heap.
pub(crate) fn resident(range: &Range<usize>) -> Option<u64> {
    if range.is_empty() {
        return None;
    }
    let smaps = fs::read_to_string("/proc/self/smaps").ok()?;
    Some(sum(&smaps, range))
}

/// A mapping is one line that begins with its addresses, and then lines such as `Rss:   12 kB`.
fn sum(smaps: &str, range: &Range<usize>) -> u64 {
    let mut inside = false;
    let mut kib = 0;
    for line in smaps.lines() {
        if let Some(mapping) = addresses(line) {
            inside = range.start <= mapping.start && mapping.end <= range.end;
        } else if let Some(rss) = line.strip_prefix("Rss:").filter(|_| inside) {
            kib += rss.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        }
    }
    kib << 10
}

fn addresses(line: &str) -> Option<Range<usize>> {
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}
