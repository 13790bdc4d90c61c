//! Texts that are to be numbers of bytes, beside a slower way to read them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use offheap::parse_bytes;

/// Digit by digit, in more bits than any answer has.
fn expected(text: &str) -> Option<usize> {
    let text = text.trim();
    let mut number: u128 = 0;
    let mut digits = 0;
    for digit in text.bytes().take_while(u8::is_ascii_digit) {
        number = number
            .saturating_mul(10)
            .saturating_add(u128::from(digit - b'0'));
        digits += 1;
    }
    if digits == 0 {
        return None;
    }
    let unit = text[digits..].trim_start();
    let mut letters = unit.chars().map(|letter| letter.to_ascii_lowercase());
    let factor: u128 = match (
        letters.next(),
        letters.next(),
        letters.next(),
        letters.next(),
    ) {
        (None | Some('b'), None, None, None) => 1,
        (Some(scale), rest, last, None) => {
            let power = "kmgt".find(scale)? as u32 + 1;
            match (rest, last) {
                (None, None) | (Some('i'), Some('b')) => 1024_u128.pow(power),
                (Some('b'), None) => 1000_u128.pow(power),
                _ => return None,
            }
        }
        _ => return None,
    };
    usize::try_from(number.checked_mul(factor)?).ok()
}

fuzz_target!(|text: &str| {
    let parsed = parse_bytes(text);
    assert_eq!(parsed.as_ref().ok().copied(), expected(text));
    match parsed {
        // What is printed plainly is read again.
        Ok(bytes) => assert_eq!(parse_bytes(&bytes.to_string()), Ok(bytes)),
        // A hostile text does not make a long message. Escapes are up to ten bytes for a character.
        Err(error) => assert!(error.to_string().len() < 64 * 10 + 200),
    }
});
