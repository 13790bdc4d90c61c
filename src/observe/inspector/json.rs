//! Writes JSON, as much of it as the inspector needs. Whatever a string holds, it stays a string.

use std::fmt::{Display, Write};

/// JSON text under construction.
#[derive(Debug, Default)]
pub(super) struct Json {
    text: String,
}

impl Json {
    /// The text of one object.
    pub(super) fn object(fill: impl FnOnce(&mut Object<'_>)) -> String {
        let mut json = Json::default();
        json.put_object(fill);
        json.text
    }

    fn put_object(&mut self, fill: impl FnOnce(&mut Object<'_>)) {
        self.text.push('{');
        fill(&mut Object {
            json: self,
            is_empty: true,
        });
        self.text.push('}');
    }

    fn put_string(&mut self, value: &str) {
        self.text.push('"');
        for c in value.chars() {
            match c {
                '"' | '\\' => self.text.extend(['\\', c]),
                // Control characters must be escaped; the others are, so that the text can stand in a page as well.
                '\0'..='\x1f' | '<' | '>' | '&' | '\x7f' | '\u{2028}' | '\u{2029}' => {
                    let _ = write!(self.text, "\\u{:04x}", u32::from(c));
                }
                _ => self.text.push(c),
            }
        }
        self.text.push('"');
    }

    fn put(&mut self, value: impl Display) {
        let _ = write!(self.text, "{value}");
    }

    fn put_all<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut put: impl FnMut(&mut Json, T),
    ) {
        self.text.push('[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            put(self, item);
        }
        self.text.push(']');
    }
}

/// The inside of an object.
#[derive(Debug)]
pub(super) struct Object<'a> {
    json: &'a mut Json,
    is_empty: bool,
}

impl Object<'_> {
    fn key(&mut self, key: &str) -> &mut Json {
        if !std::mem::take(&mut self.is_empty) {
            self.json.text.push(',');
        }
        self.json.put_string(key);
        self.json.text.push(':');
        self.json
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.key(key).put(value);
    }

    pub(super) fn maybe(&mut self, key: &str, value: Option<u64>) {
        match value {
            Some(value) => self.number(key, value),
            None => self.key(key).put("null"),
        }
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.key(key).put(value);
    }

    pub(super) fn string(&mut self, key: &str, value: &str) {
        self.key(key).put_string(value);
    }

    pub(super) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        self.key(key).put_object(fill);
    }

    pub(super) fn numbers(&mut self, key: &str, values: impl IntoIterator<Item = u64>) {
        self.key(key).put_all(values, |json, value| json.put(value));
    }

    pub(super) fn objects<T>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Object<'_>, T),
    ) {
        self.key(key)
            .put_all(items, |json, item| json.put_object(|o| fill(o, item)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_in_lists_in_objects() {
        let text = Json::object(|o| {
            o.number("a", u64::MAX);
            o.maybe("b", None);
            o.flag("c", true);
            o.numbers("d", [1, 2]);
            o.objects("e", [7, 8], |o, n| o.number("n", n));
            o.object("f", |_| ());
        });
        assert_eq!(
            text,
            r#"{"a":18446744073709551615,"b":null,"c":true,"d":[1,2],"e":[{"n":7},{"n":8}],"f":{}}"#
        );
    }

    #[test]
    fn strings_stay_strings() {
        let nasty = "</script>\"\\ &\u{0}\n\u{7f}\u{2028}\u{1f600}ä";
        let text = Json::object(|o| o.string(nasty, nasty));
        let escaped = r#"\u003c/script\u003e\"\\ \u0026\u0000\u000a\u007f\u2028😀ä"#;
        assert_eq!(text, format!("{{\"{escaped}\":\"{escaped}\"}}"));
    }
}
