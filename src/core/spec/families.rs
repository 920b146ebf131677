//! What goes with what: one table behind the checks, their messages, and `persona.families`.

use super::{Encoder, ModelSpec, Objective, Split, ncf};
use crate::error::{Error, ErrorKind, Result};

/// A family of models.
pub struct Family {
    /// As in `encoder.kind`.
    pub kind: &'static str,
    /// Kinds of objectives that it can learn.
    pub objectives: &'static [&'static str],
    /// Whether it makes a vector for each entity.
    pub vectors: bool,
    pub summary: &'static str,
    pub reference: &'static str,
}

const ITEMS: [&str; 2] = ["next_event", "ratings"];
const BAG: [&str; 4] = ["classify", "regress", "contrastive", "reconstruct"];
const DECODER: [&str; 5] = ["next_k", "classify", "regress", "contrastive", "reconstruct"];
const SEQUENCE: [&str; 6] = ["next_event", "next_k", "classify", "regress", "contrastive", "reconstruct"];
const BOTH_SIDES: [&str; 7] =
    ["next_event", "next_k", "masked_event", "classify", "regress", "contrastive", "reconstruct"];

pub const FAMILIES: &[Family] = &[
    Family {
        kind: "transformer",
        objectives: &BOTH_SIDES,
        vectors: true,
        summary: "causal self-attention over the sequence of events",
        reference: "Kang & McAuley 2018, Self-Attentive Sequential Recommendation",
    },
    Family {
        kind: "rnn",
        objectives: &SEQUENCE,
        vectors: true,
        summary: "plain recurrence over the sequence of events",
        reference: "Elman 1990, Finding Structure in Time",
    },
    Family {
        kind: "lstm",
        objectives: &SEQUENCE,
        vectors: true,
        summary: "long short-term memory over the sequence of events",
        reference: "Hochreiter & Schmidhuber 1997, Long Short-Term Memory",
    },
    Family {
        kind: "gru",
        objectives: &SEQUENCE,
        vectors: true,
        summary: "gated recurrent unit over the sequence of events",
        reference: "Hidasi et al. 2016, Session-based Recommendations with Recurrent Neural Networks",
    },
    Family {
        kind: "cnn",
        objectives: &SEQUENCE,
        vectors: true,
        summary: "dilated convolutions over the sequence of events",
        reference: "Yuan et al. 2019, A Simple Convolutional Generative Network for Next Item Recommendation",
    },
    Family {
        kind: "dnn",
        objectives: &BAG,
        vectors: true,
        summary: "feed-forward layers over the bag of events",
        reference: "Cheng et al. 2016, Wide & Deep Learning for Recommender Systems",
    },
    Family {
        kind: "transitions",
        objectives: &["next_event"],
        vectors: false,
        summary: "decayed counts of which item follows which",
        reference: "the floor: nothing is learned",
    },
    Family {
        kind: "popularity",
        objectives: &["next_event"],
        vectors: false,
        summary: "how often an item occurs, or how often lately",
        reference: "the floor: nothing is learned",
    },
    Family {
        kind: "knn",
        objectives: &ITEMS,
        vectors: false,
        summary: "items, or entities, that are alike",
        reference: "Sarwar et al. 2001, Herlocker et al. 1999; by regression Steck 2019, Embarrassingly Shallow Autoencoders",
    },
    Family {
        kind: "mf",
        objectives: &ITEMS,
        vectors: true,
        summary: "factors of items; an entity's are folded in from its history",
        reference: "Hu, Koren & Volinsky 2008; Rendle et al. 2009; Koren, Bell & Volinsky 2009",
    },
    Family {
        kind: "ncf",
        objectives: &ITEMS,
        vectors: false,
        summary: "product of and layers over an item's and a history's embeddings",
        reference: "He et al. 2017, Neural Collaborative Filtering; Kabbur et al. 2013, FISM",
    },
    Family {
        kind: "blend",
        objectives: &["next_event"],
        vectors: false,
        summary: "a convex mix of what other models say, weighted on validation",
        reference: "Jahrer, Töscher & Legenstein 2010, Combining Predictions for Accurate Recommender Systems",
    },
    Family {
        kind: "autoencoder",
        objectives: &BAG,
        vectors: true,
        summary: "recurrent encoder with a bottleneck, unfolded again by the objective reconstruct",
        reference: "Srivastava et al. 2015, Unsupervised Learning of Video Representations using LSTMs",
    },
    Family {
        kind: "dbn",
        objectives: &BAG,
        vectors: true,
        summary: "stacked Boltzmann machines over the binary bag of events",
        reference: "Hinton et al. 2006, A Fast Learning Algorithm for Deep Belief Nets",
    },
    Family {
        kind: "encoder_decoder",
        objectives: &DECODER,
        vectors: true,
        summary: "attention over the history from both sides, and a decoder of what comes",
        reference: "Vaswani et al. 2017, Attention Is All You Need",
    },
    Family {
        kind: "gan",
        objectives: &["adversarial"],
        vectors: true,
        summary: "a generator of events, and a discriminator whose state is the profile",
        reference: "Goodfellow et al. 2014; Kusner & Hernández-Lobato 2016, GANs for Sequences of Discrete Elements",
    },
];

/// Families that count, or mix what others say.
const COUNTING: [&str; 5] = ["transitions", "popularity", "knn", "mf", "blend"];

/// Whether a family is a network, whose weights are trained step by step.
pub fn is_network(kind: &str) -> bool {
    !COUNTING.contains(&kind)
}

/// Kinds of families, of those that are so.
pub fn families_of(are: impl Fn(&str) -> bool) -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.kind).filter(move |kind| are(kind))
}

/// Splits that an objective can be judged by.
pub(super) const SPLITS: &[(&str, &[Split])] = &[
    ("next_event", &[Split::Temporal, Split::LeaveOneOut, Split::Random]),
    ("classify", &[Split::Temporal, Split::Random, Split::KFold]),
    ("regress", &[Split::Temporal, Split::Random, Split::KFold]),
    ("contrastive", &[Split::Temporal, Split::LeaveOneOut, Split::Random]),
    ("masked_event", &[Split::Temporal, Split::LeaveOneOut, Split::Random]),
    ("reconstruct", &[Split::Temporal, Split::Random]),
    ("next_k", &[Split::Temporal, Split::Random]),
    ("ratings", &[Split::Temporal, Split::LeaveOneOut, Split::Random]),
    ("adversarial", &[Split::Temporal, Split::Random]),
];

/// Refuses a family that cannot learn an objective, and an objective that a split cannot judge.
pub(super) fn check(spec: &ModelSpec) -> Result<()> {
    let family = spec.encoder.kind();
    for objective in spec.objective.iter() {
        let kind = objective.kind();
        let learns = |family: &Family| family.objectives.contains(&kind);
        if !FAMILIES.iter().any(|known| known.kind == family && learns(known)) {
            let able = FAMILIES.iter().filter(|family| learns(family)).map(|family| family.kind);
            return Err(unsupported(format!("encoder \"{family}\" cannot learn the objective {kind}"))
                .hint(format!("Families that can are {}.", listed(able))));
        }
        match (&spec.encoder, objective) {
            (Encoder::Mf(mf), _) => mf.check_objective(kind)?,
            (Encoder::Ncf(_), Objective::NextEvent(next)) => ncf::check_next_event(next)?,
            (encoder, Objective::NextEvent(_)) => encoder.check_next_event()?,
            _ => {}
        }
        let split = spec.training.split;
        let able = SPLITS.iter().find(|(known, _)| *known == kind).map_or(&[][..], |(_, splits)| splits);
        if !able.contains(&split) {
            return Err(unsupported(format!("training.split \"{}\" cannot judge the objective {kind}", split.name()))
                .hint(format!("Splits that can are {}.", listed(able.iter().map(|split| split.name())))));
        }
        let ahead = matches!(kind, "next_event" | "next_k");
        if (ahead && !spec.encoder.causal()) || (kind == "masked_event" && spec.encoder.causal()) {
            return Err(unsupported(format!("encoder.causal {} does not go with the objective {kind}", !ahead))
                .hint(format!("Set encoder.causal to {ahead}.")));
        }
    }
    Ok(())
}

fn unsupported(message: String) -> Error {
    Error::new(ErrorKind::Unsupported, message)
}

/// `"a", "b" and "c"`
pub fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    match names.as_slice() {
        [] => "none".to_string(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
