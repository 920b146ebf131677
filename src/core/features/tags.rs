//! Arrays of tags as lists of codes.

use super::{FIRST, Lists, MISSING, UNKNOWN, Vocabulary, text, vocabulary};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Strings, Values};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use serde_json::Value;
use std::cmp::Reverse;

/// The tags of a field, each with a code of its own. The field's values are arrays written as JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Tags {
    /// By falling number of events with the tag; ties by the tag.
    pub vocabulary: Vocabulary,
}

impl Tags {
    /// The tags that at least `min_count` events have, of a dictionary-encoded column. An error
    /// where a value is no array of strings, numbers, booleans and nulls.
    pub fn fit(field: &str, codes: &[u32], values: &Values, min_count: u32) -> Result<Self> {
        let mut counts: HashMap<String, u64, RandomState> = HashMap::default();
        for (text, events) in arrays(field, values)?.iter().zip(vocabulary::count(codes, values)) {
            for tag in parse(field, text)? {
                *counts.entry(tag).or_default() += events;
            }
        }
        let mut kept: Vec<_> = counts.into_iter().filter(|(_, count)| *count >= u64::from(min_count.max(1))).collect();
        kept.sort_unstable_by(|(a, in_a), (b, in_b)| (Reverse(in_a), a).cmp(&(Reverse(in_b), b)));
        let counts = kept.iter().map(|(_, count)| *count).collect();
        let values = Values::Text(kept.iter().map(|(tag, _)| tag).collect());
        Ok(Tags { vocabulary: Vocabulary::new(values, counts) })
    }

    /// Number of codes, with missing and unknown.
    pub fn size(&self) -> usize {
        self.vocabulary.size()
    }

    /// The lists of a dictionary's arrays: distinct codes, ascending; [`MISSING`] alone for an empty
    /// array. Event `i` has the list `codes[i]`; list 0 is that of NULL. Errors as in [`Tags::fit`].
    pub fn encode(&self, field: &str, mut codes: Vec<u32>, from: &Values) -> Result<(Vec<u32>, Lists)> {
        let own = match &self.vocabulary.values {
            Values::Text(own) => own,
            Values::Integer(_) => unreachable!("tags are text"),
        };
        let known: HashMap<&str, u32, RandomState> = own.iter().zip(FIRST..).collect();
        let mut lists: Lists = std::iter::once([MISSING]).collect();
        for text in arrays(field, from)?.iter() {
            let tags = parse(field, text)?;
            let mut list: Vec<u32> =
                tags.iter().map(|tag| known.get(tag.as_str()).copied().unwrap_or(UNKNOWN)).collect();
            list.sort_unstable();
            list.dedup();
            lists.push(if list.is_empty() { &[MISSING] } else { &list });
        }
        text::shift(&mut codes);
        Ok((codes, lists))
    }
}

fn arrays<'a>(field: &str, values: &'a Values) -> Result<&'a Strings> {
    match values {
        Values::Text(values) => Ok(values),
        Values::Integer(_) => Err(no_array(field, "Its values are integers.".into())),
    }
}

/// The distinct tags of one array, in order; nulls are left out.
fn parse(field: &str, text: &str) -> Result<Vec<String>> {
    let start = || text.chars().take(60).collect::<String>();
    let elements: Vec<Value> =
        serde_json::from_str(text).map_err(|e| no_array(field, format!("\"{}\" is not one: {e}.", start())))?;
    let mut tags = Vec::with_capacity(elements.len());
    for element in elements {
        match element {
            Value::Null => {}
            Value::String(tag) => tags.push(tag),
            Value::Bool(_) | Value::Number(_) => tags.push(element.to_string()),
            Value::Array(_) | Value::Object(_) => {
                return Err(no_array(field, format!("\"{}\" has arrays or objects in it.", start())));
            }
        }
    }
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

fn no_array(field: &str, detail: String) -> Error {
    Error::new(ErrorKind::InvalidData, format!("field \"{field}\" has values that are no arrays of tags"))
        .detail(detail)
        .hint("Make the column an array of text, or declare it as kind text or category.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::NULL;

    fn texts(values: &[&str]) -> Values {
        Values::Text(values.iter().collect())
    }

    #[test]
    fn tags_come_by_events_then_by_tag() {
        let values = texts(&[r#"["b","a"]"#, r#"["a", "a", null]"#, "[]", r#"["rare",7,true]"#, r#"["unused"]"#]);
        // a: 2 + 1 events, b: 2; rare, 7 and true: 1 each; a tag counts once an event.
        let codes = [0, 1, 0, NULL, 2, 3];
        let tags = Tags::fit("tags", &codes, &values, 1).unwrap();
        assert_eq!(tags.vocabulary.values, texts(&["a", "b", "7", "rare", "true"]));
        assert_eq!(tags.vocabulary.counts, [3, 2, 1, 1, 1]);
        assert_eq!(tags.size(), 7);
    }

    #[test]
    fn rare_and_new_tags_are_unknown_and_no_tags_are_missing() {
        let values = texts(&[r#"["b","a"]"#, r#"["a"]"#, r#"["x","y"]"#, "[]"]);
        let tags = Tags::fit("tags", &[0, 1, 0, 2], &values, 2).unwrap();
        let (codes, lists) = tags.encode("tags", vec![3, NULL, 0, 1, 2], &values).unwrap();
        assert_eq!(codes, [4, 0, 1, 2, 3]);
        let lists: Vec<_> = codes.iter().map(|&code| lists.get(code as usize)).collect();
        assert_eq!(lists, [&[MISSING][..], &[MISSING], &[2, 3], &[2], &[UNKNOWN]]);
        let later = texts(&[r#"["new","b"]"#]);
        let (_, lists) = tags.encode("tags", vec![0], &later).unwrap();
        assert_eq!(lists.get(1), [UNKNOWN, 3]);
    }

    #[test]
    fn what_is_no_array_is_refused() {
        for wrong in ["{a,b}", "\"a\"", "[[1]]", r#"[{"a":1}]"#, ""] {
            let error = Tags::fit("tags", &[0], &texts(&[wrong]), 1).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidData);
            assert_eq!(error.message, "field \"tags\" has values that are no arrays of tags");
            assert!(error.detail.is_some() && error.hint.is_some());
        }
        assert!(Tags::fit("tags", &[0], &Values::Integer(vec![1]), 1).is_err());
    }
}
