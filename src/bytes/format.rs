//! `Debug` as `bytes` has it: a byte string literal.

use std::fmt;

pub(super) fn debug<'a>(
    bytes: impl IntoIterator<Item = &'a u8>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    f.write_str("b\"")?;
    for &byte in bytes {
        match byte {
            b'\0' => f.write_str("\\0")?,
            b'\n' => f.write_str("\\n")?,
            b'\r' => f.write_str("\\r")?,
            b'\t' => f.write_str("\\t")?,
            b'\\' | b'"' => write!(f, "\\{}", char::from(byte))?,
            0x20..=0x7e => write!(f, "{}", char::from(byte))?,
            _ => write!(f, "\\x{byte:02x}")?,
        }
    }
    f.write_str("\"")
}
