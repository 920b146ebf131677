//! What training begins with: another version's weights, of which some stay as they are.

use super::families::{families_of, is_network};
use super::{Encoder, ModelSpec, listed};
use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A version of a model as a specification names it: `name` is the live one, `name@3` the third.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct VersionName {
    pub model: String,
    /// None for the version that is live when it is asked for.
    pub version: Option<i32>,
}

impl From<String> for VersionName {
    fn from(text: String) -> Self {
        let numbered = text.rsplit_once('@').and_then(|(model, number)| Some((model, number.parse().ok()?)));
        match numbered {
            Some((model, number)) if number > 0 => VersionName { model: model.to_string(), version: Some(number) },
            _ => VersionName { model: text, version: None },
        }
    }
}

impl From<VersionName> for String {
    fn from(name: VersionName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.model),
            None => f.write_str(&self.model),
        }
    }
}

/// Parts that every network's weights fall into. Items that are both read and ranked are embeddings.
const PARTS: [&str; 3] = ["embeddings", "encoder", "heads"];

/// Which part a weight belongs to, by its name.
fn part_of(weight: &str) -> &'static str {
    let read = ["inputs.", "items.weight", "numbers.weight", "mask.weight"];
    let said = ["head.", "items.output.", "items.bias", "wide."];
    // What a bag of the newest events has stands behind a prefix.
    let own = match weight.strip_prefix("recent.") {
        Some(rest) => rest.split_once('.').map_or(rest, |(_, own)| own),
        None => weight,
    };
    match own {
        own if read.iter().any(|start| own.starts_with(start)) => PARTS[0],
        own if said.iter().any(|start| own.starts_with(start)) => PARTS[2],
        _ => PARTS[1],
    }
}

/// Whether one of the names in `training.freeze` means a weight.
pub fn freezes(name: &str, weight: &str) -> bool {
    if name.contains('.') { weight.starts_with(name) } else { part_of(weight) == name }
}

/// Refuses a beginning that a family does not have, and names of parts that there are not.
pub(super) fn check(spec: &ModelSpec) -> Result<()> {
    let training = &spec.training;
    if training.init_from.is_some() && !is_network(spec.encoder.kind()) {
        return Err(no_weights(&spec.encoder));
    }
    if training.freeze.is_empty() {
        return Ok(());
    }
    if training.init_from.is_none() {
        return Err(Error::invalid("training.freeze needs training.init_from")
            .detail("What is frozen would stay as it was drawn at random.")
            .hint("Name the version whose weights are to stay, such as \"shoppers\" or \"shoppers@3\"."));
    }
    if let Some(unknown) = training.freeze.iter().find(|name| !name.contains('.') && !PARTS.contains(&name.as_str())) {
        return Err(Error::invalid(format!("training.freeze \"{unknown}\" is no part of a network")).hint(format!(
            "Parts are {}; a name with a dot is the beginning of the names of weights, such as \"block.0.\".",
            listed(PARTS.into_iter())
        )));
    }
    match PARTS.iter().all(|part| training.freeze.iter().any(|name| name == part)) {
        true => Err(Error::invalid("training.freeze leaves nothing to train")
            .hint("Leave out one of the parts, such as \"heads\".")),
        false => Ok(()),
    }
}

/// The error for a family that has no weights to begin with.
pub fn no_weights(encoder: &Encoder) -> Error {
    let message = format!("encoder \"{}\" counts and has no weights to begin with", encoder.kind());
    Error::new(ErrorKind::Unsupported, message)
        .hint(format!("Families that have are {}.", listed(families_of(is_network))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_by_its_model_and_number() {
        let name = |text: &str| VersionName::from(text.to_string());
        assert_eq!(name("a"), VersionName { model: "a".into(), version: None });
        assert_eq!(name("a@b@12"), VersionName { model: "a@b".into(), version: Some(12) });
        for plain in ["a@", "a@x", "a@0", "a@-1", "a@99999999999"] {
            assert_eq!(name(plain), VersionName { model: plain.into(), version: None });
        }
        assert_eq!([name("a@3").to_string(), name("a").to_string()], ["a@3", "a"]);
    }

    #[test]
    fn parts_are_told_by_the_names_of_weights() {
        for (weight, part) in [
            ("items.weight", "embeddings"),
            ("inputs.head.weight", "embeddings"),
            ("recent.0.inputs.shop.weight", "embeddings"),
            ("numbers.weight", "embeddings"),
            ("block.0.attention.qkv.weight", "encoder"),
            ("recent.1.count.weight", "encoder"),
            ("norm.bias", "encoder"),
            ("head.age.weight", "heads"),
            ("wide.items.weight", "heads"),
            ("recent.0.wide.numbers.weight", "heads"),
            ("items.output.weight", "heads"),
        ] {
            assert_eq!(part_of(weight), part, "{weight}");
            assert!(freezes(part, weight));
        }
        assert!(freezes("block.0.", "block.0.attention.qkv.weight") && !freezes("block.1.", "block.0.norm.weight"));
    }
}
