//! What a model learns: one objective or several, each with a weight.

use super::ratings::Ratings;
use super::selfmade::{Adversarial, Contrastive, Decoder, MaskedEvent, NextK, Reconstruct};
use super::{fraction, negatives, positive};
use crate::error::{Error, ErrorKind, Result};
use crate::source::{FieldKind, Label, LabelKind, SourceSchema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The most items whose softmax is computed in full when `softmax` is `auto`.
pub const FULL_SOFTMAX_ITEMS: usize = 50_000;

/// One objective or more; the first decides which epoch is the best. In JSON an object, or an array of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Objectives(pub Vec<Objective>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Objective {
    NextEvent(NextEvent),
    Classify(Classify),
    Regress(Regress),
    Contrastive(Contrastive),
    MaskedEvent(MaskedEvent),
    Reconstruct(Reconstruct),
    NextK(NextK),
    Ratings(Ratings),
    Adversarial(Adversarial),
}

/// Predict the category of the next event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextEvent {
    pub field: String,
    #[serde(default)]
    pub softmax: Softmax,
    /// Sampled negatives shared by a batch, when the softmax is sampled.
    #[serde(default = "default_negatives")]
    pub negatives: usize,
    /// Probability that is spread evenly over all categories in training (Szegedy et al. 2016).
    #[serde(default)]
    pub label_smoothing: f64,
    /// Its share among several objectives.
    #[serde(default = "one")]
    pub weight: f64,
}

pub(super) fn default_negatives() -> usize {
    1024
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Softmax {
    /// Full up to [`FULL_SOFTMAX_ITEMS`], sampled above.
    #[default]
    Auto,
    Full,
    Sampled,
}

/// Predict which class an entity is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classify {
    /// A label of the source.
    pub label: String,
    #[serde(default)]
    pub class_weights: ClassWeights,
    /// Probability that is spread evenly over all classes in training (Szegedy et al. 2016).
    #[serde(default)]
    pub label_smoothing: f64,
    /// The fewest examples that each class must have.
    #[serde(default = "hundred")]
    pub min_examples: usize,
    #[serde(default = "one")]
    pub weight: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    /// Every example counts the same.
    #[default]
    None,
    /// Every class counts the same.
    Balanced,
}

/// Predict a number of an entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regress {
    /// A label of the source.
    pub label: String,
    #[serde(default)]
    pub loss: Deviation,
    /// Learn `ln(1 + y)`, for amounts; labels must not be negative.
    #[serde(default)]
    pub log: bool,
    /// The fewest examples that there must be.
    #[serde(default = "hundred")]
    pub min_examples: usize,
    #[serde(default = "one")]
    pub weight: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deviation {
    /// Mean squared error; predicts the mean.
    #[default]
    Mse,
    /// Mean absolute error; predicts the median.
    Mae,
}

pub(super) fn one() -> f64 {
    1.0
}

fn hundred() -> usize {
    100
}

impl Objective {
    /// The name in a specification.
    pub fn kind(&self) -> &'static str {
        match self {
            Objective::NextEvent(_) => "next_event",
            Objective::Classify(_) => "classify",
            Objective::Regress(_) => "regress",
            Objective::Contrastive(_) => "contrastive",
            Objective::MaskedEvent(_) => "masked_event",
            Objective::Reconstruct(_) => "reconstruct",
            Objective::NextK(_) => "next_k",
            Objective::Ratings(_) => "ratings",
            Objective::Adversarial(_) => "adversarial",
        }
    }

    pub fn weight(&self) -> f64 {
        match self {
            Objective::NextEvent(o) => o.weight,
            Objective::Classify(o) => o.weight,
            Objective::Regress(o) => o.weight,
            Objective::Contrastive(o) => o.weight,
            Objective::MaskedEvent(o) => o.weight,
            Objective::Reconstruct(o) => o.weight,
            Objective::NextK(o) => o.weight,
            Objective::Ratings(o) => o.weight,
            Objective::Adversarial(o) => o.weight,
        }
    }

    /// The field whose values it predicts.
    pub fn field(&self) -> Option<&str> {
        match self {
            Objective::NextEvent(o) => Some(&o.field),
            Objective::MaskedEvent(o) => Some(&o.field),
            Objective::Reconstruct(o) => Some(&o.field),
            Objective::NextK(o) => Some(&o.field),
            Objective::Ratings(o) => Some(&o.field),
            Objective::Adversarial(o) => Some(&o.field),
            Objective::Classify(_) | Objective::Regress(_) | Objective::Contrastive(_) => None,
        }
    }

    /// The label that it predicts.
    pub fn label(&self) -> Option<&str> {
        match self {
            Objective::Classify(o) => Some(&o.label),
            Objective::Regress(o) => Some(&o.label),
            _ => None,
        }
    }

    fn check(&self, source: &SourceSchema) -> Result<()> {
        positive("objective.weight", self.weight())?;
        if let Some(field) = self.field() {
            target(self.kind(), field, source)?;
        }
        match self {
            Objective::NextEvent(o) => {
                negatives(o.negatives)?;
                fraction("objective.label_smoothing", o.label_smoothing)
            }
            Objective::Contrastive(o) => o.check(),
            Objective::MaskedEvent(o) => o.check(),
            Objective::Reconstruct(o) => o.check(),
            Objective::NextK(o) => o.check(),
            Objective::Ratings(o) => o.check(source),
            Objective::Adversarial(o) => o.check(),
            Objective::Classify(o) => {
                label(source, &o.label)?;
                fraction("objective.label_smoothing", o.label_smoothing)
            }
            Objective::Regress(o) => match label(source, &o.label)?.kind {
                LabelKind::Number => Ok(()),
                LabelKind::Class => Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("objective regress cannot predict label \"{}\" of kind class", o.label),
                )
                .hint("Use the objective classify, or declare the label as kind number.")),
            },
        }
    }
}

impl Objectives {
    pub fn iter(&self) -> impl Iterator<Item = &Objective> {
        self.0.iter()
    }

    /// The labels that are predicted, in order.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.iter().filter_map(Objective::label)
    }

    /// What predicts the next event, if anything does.
    pub fn next_event(&self) -> Option<&NextEvent> {
        self.iter().find_map(|objective| match objective {
            Objective::NextEvent(next) => Some(next),
            _ => None,
        })
    }

    /// What predicts ratings, if anything does.
    pub fn ratings(&self) -> Option<&Ratings> {
        self.iter().find_map(|objective| match objective {
            Objective::Ratings(ratings) => Some(ratings),
            _ => None,
        })
    }

    /// What draws events, if anything does.
    pub fn adversarial(&self) -> Option<&Adversarial> {
        self.iter().find_map(|objective| match objective {
            Objective::Adversarial(adversarial) => Some(adversarial),
            _ => None,
        })
    }

    /// Whether events are hidden from the model, so that it needs a vector that stands for one.
    pub fn hides(&self) -> bool {
        self.iter().any(|objective| matches!(objective, Objective::MaskedEvent(_)))
    }

    /// Whether a profile is unfolded into a sequence again.
    pub fn unfolds(&self) -> bool {
        let unfolds = |o: &Objective| matches!(o, Objective::Reconstruct(o) if o.decoder == Decoder::Sequence);
        self.iter().any(unfolds)
    }

    pub(super) fn check(&self, source: &SourceSchema) -> Result<()> {
        if self.0.is_empty() {
            return Err(
                Error::invalid("a model needs an objective").hint("See persona.families for what each can learn.")
            );
        }
        self.iter().try_for_each(|objective| objective.check(source))?;
        if self.0.len() > 1 && self.ratings().is_some() {
            return Err(Error::new(ErrorKind::Unsupported, "objective ratings does not go with others")
                .hint("Train one model for the ratings and another for the rest."));
        }
        let names = |o: &Objective| (o.kind(), o.field().or(o.label()).map(str::to_string));
        let twice = self.0.iter().enumerate().find(|(i, o)| self.0[..*i].iter().any(|other| names(other) == names(o)));
        let label = self
            .0
            .iter()
            .enumerate()
            .find(|(i, o)| o.label().is_some() && self.0[..*i].iter().any(|p| p.label() == o.label()));
        let mut fields = self.iter().filter_map(Objective::field);
        let first = fields.next();
        if let Some(other) = fields.find(|&field| Some(field) != first) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("objectives predict the fields \"{}\" and \"{other}\"", first.unwrap_or_default()),
            )
            .hint("A model has the items of one field; train one model for each."));
        }
        match twice.or(label) {
            None => Ok(()),
            Some((_, o)) => Err(Error::invalid(format!("objective {} is there twice", o.kind()))
                .hint("Give each field and each label one objective.")),
        }
    }
}

/// The index of a field that an objective predicts: a category of the source.
pub(super) fn target(objective: &str, name: &str, source: &SourceSchema) -> Result<usize> {
    let categories = || {
        let names: Vec<_> = source
            .fields
            .iter()
            .filter(|field| field.kind == FieldKind::Category)
            .map(|field| format!("\"{}\"", field.name))
            .collect();
        match names.is_empty() {
            true => "The source has no field of kind category; declare one in create_source.".to_string(),
            false => format!("The source's fields of kind category are {}.", names.join(", ")),
        }
    };
    match source.field(name) {
        None => {
            Err(Error::invalid(format!("objective field \"{name}\" is not a field of the source")).hint(categories()))
        }
        Some((_, field)) if field.kind != FieldKind::Category => Err(Error::new(
            ErrorKind::Unsupported,
            format!("objective {objective} cannot predict field \"{name}\" of kind {}", field.kind.name()),
        )
        .hint(categories())),
        Some((index, _)) => Ok(index),
    }
}

fn label<'a>(source: &'a SourceSchema, name: &str) -> Result<&'a Label> {
    source.label(name).ok_or_else(|| {
        let names: Vec<_> = source.labels.iter().map(|label| format!("\"{}\"", label.name)).collect();
        Error::invalid(format!("objective label \"{name}\" is not a label of the source")).hint(
            match names.is_empty() {
                true => "The source has no labels; declare them in create_source.".to_string(),
                false => format!("The source's labels are {}.", names.join(", ")),
            },
        )
    })
}

impl Serialize for Objectives {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Objectives {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Objectives;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an objective or an array of objectives")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Objectives, A::Error> {
                Objective::deserialize(MapAccessDeserializer::new(map)).map(|one| Objectives(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> std::result::Result<Objectives, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Objectives)
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}
