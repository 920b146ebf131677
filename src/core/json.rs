//! A JSON value as Postgres writes it, told apart by how it begins.

use std::borrow::Cow;

/// What a field that is a path into JSON finds in one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json<'a> {
    Null,
    Boolean(bool),
    /// As it is written.
    Number(&'a str),
    Text(Cow<'a, str>),
    /// As it is written.
    Array(&'a str),
    Object,
}

impl<'a> Json<'a> {
    /// `None` for what is no JSON.
    pub fn read(text: &'a str) -> Option<Self> {
        Some(match text.as_bytes().first()? {
            b'n' => Json::Null,
            b't' => Json::Boolean(true),
            b'f' => Json::Boolean(false),
            b'[' => Json::Array(text),
            b'{' => Json::Object,
            b'"' => Json::Text(unquoted(text)?),
            _ => Json::Number(text),
        })
    }
}

/// Most strings have nothing that is escaped.
fn unquoted(text: &str) -> Option<Cow<'_, str>> {
    let inside = text.strip_prefix('"')?.strip_suffix('"')?;
    match inside.contains('\\') {
        false => Some(Cow::Borrowed(inside)),
        true => serde_json::from_str(text).ok().map(Cow::Owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_told_apart() {
        let read = |text| Json::read(text).unwrap();
        assert_eq!(read("null"), Json::Null);
        assert_eq!((read("true"), read("false")), (Json::Boolean(true), Json::Boolean(false)));
        assert_eq!((read("-1.5"), read("12")), (Json::Number("-1.5"), Json::Number("12")));
        assert_eq!(read(r#"["a", 1]"#), Json::Array(r#"["a", 1]"#));
        assert_eq!(read(r#"{"a": 1}"#), Json::Object);
        assert_eq!(read(r#""Köln""#), Json::Text("Köln".into()));
        assert_eq!(read(r#""a \"b\" \u00e9\\""#), Json::Text("a \"b\" é\\".into()));
        assert_eq!(read(r#""""#), Json::Text("".into()));
        assert_eq!((Json::read(""), Json::read("\"")), (None, None));
    }
}
