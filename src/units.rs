//! Byte counts as text, both ways.

use std::fmt;

/// Why a text is not a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseBytesError {
    text: String,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    NoNumber,
    Negative,
    Unit,
    TooLarge,
}

impl fmt::Display for ParseBytesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::NoNumber => "it does not begin with a whole number",
            Why::Negative => "it is negative",
            Why::Unit => "its unit is unknown",
            Why::TooLarge => "it is more than this platform can address",
        };
        write!(
            f,
            "{:?} is not a number of bytes: {why}; write for example \"1048576\", \"256MiB\", \"64k\" or \"1 GB\"",
            self.text
        )
    }
}

impl std::error::Error for ParseBytesError {}

/// Units by their names in lower case. Single letters are binary, as in the JVM's and the kernel's options.
const UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("t", 1 << 40),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
];

/// Reads a number of bytes: a whole number and an optional unit, in any case, with or without a space between them.
///
/// `KiB`, `MiB`, `GiB`, `TiB` and the single letters `k`, `m`, `g`, `t` are powers of 1024; `kB`, `MB`, `GB`, `TB` are powers of
/// 1000; `B` or nothing is bytes.
///
/// # Errors
///
/// [`ParseBytesError`] says what is wrong with the text.
///
/// # Examples
///
/// ```
/// assert_eq!(offheap::parse_bytes("256MiB")?, 256 << 20);
/// assert_eq!(offheap::parse_bytes("64 k")?, 65_536);
/// assert_eq!(offheap::parse_bytes("1GB")?, 1_000_000_000);
/// assert!(offheap::parse_bytes("10kmt").is_err());
/// assert!(offheap::parse_bytes("-1").is_err());
/// # Ok::<(), offheap::ParseBytesError>(())
/// ```
pub fn parse_bytes(text: &str) -> Result<usize, ParseBytesError> {
    let fail = |why| ParseBytesError {
        text: text.chars().take(64).collect(),
        why,
    };
    let trimmed = text.trim();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    if number.is_empty() {
        let negative = unit
            .strip_prefix('-')
            .is_some_and(|rest| rest.trim_start().starts_with(|c: char| c.is_ascii_digit()));
        return Err(fail(if negative {
            Why::Negative
        } else {
            Why::NoNumber
        }));
    }
    let unit = unit.trim_start().to_ascii_lowercase();
    let (_, factor) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| fail(Why::Unit))?;
    // Only digits are left, so that a failure can only mean too many of them.
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| fail(Why::TooLarge))
}

/// Shows a number of bytes exactly, and readably behind it: `1048576 bytes (1 MiB)`.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0;
        write!(f, "{bytes} byte{}", if bytes == 1 { "" } else { "s" })?;
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let Some((shift, unit)) = units.into_iter().find(|(shift, _)| bytes >> shift > 0) else {
            return Ok(());
        };
        let size = 1_u64 << shift;
        if bytes % size == 0 {
            write!(f, " ({} {unit})", bytes / size)
        } else {
            write!(f, " ({:.1} {unit})", bytes as f64 / size as f64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("  7 ", 7),
            ("7B", 7),
            ("64k", 64 << 10),
            ("64K", 64 << 10),
            ("256MiB", 256 << 20),
            ("256 mib", 256 << 20),
            ("2g", 2 << 30),
            ("1kB", 1000),
            ("3 MB", 3_000_000),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text:?}");
        }
    }

    #[test]
    fn refuses_the_rest_and_says_why() {
        for (text, why) in [
            ("", Why::NoNumber),
            ("MiB", Why::NoNumber),
            ("-", Why::NoNumber),
            ("+1", Why::NoNumber),
            ("-1", Why::Negative),
            ("- 1k", Why::Negative),
            ("10kmt", Why::Unit),
            ("1.5GiB", Why::Unit),
            ("1 2", Why::Unit),
            ("0x10", Why::Unit),
            ("1_000", Why::Unit),
            ("99999999999999999999", Why::TooLarge),
            ("99999999999t", Why::TooLarge),
        ] {
            let error = parse_bytes(text).unwrap_err();
            assert_eq!(error.why, why, "{text:?}");
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn shows_both_forms() {
        assert_eq!(Bytes(0).to_string(), "0 bytes");
        assert_eq!(Bytes(1).to_string(), "1 byte");
        assert_eq!(Bytes(1023).to_string(), "1023 bytes");
        assert_eq!(Bytes(1 << 20).to_string(), "1048576 bytes (1 MiB)");
        assert_eq!(Bytes(1536).to_string(), "1536 bytes (1.5 KiB)");
        assert_eq!(
            Bytes(u64::MAX).to_string(),
            "18446744073709551615 bytes (16777216.0 TiB)"
        );
    }
}
