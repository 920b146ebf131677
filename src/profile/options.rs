//! What a user may choose when creating a profile.

use crate::error::{Code, Error, Result};
use crate::relation::Column;
use persona_core::reduction::Reduce;
use persona_core::spec::Encoder;
use pgrx::pg_sys;
use serde::{Deserialize, Serialize};

/// Items of a list where a profile has nothing else to recommend from.
const RECOMMENDATIONS: usize = 100;

/// Bytes of a page that a row can have, without its header.
const ROOM: usize = 8160 - 24;

/// An index over a profile's vectors. Those of items, which change with versions alone, have HNSW.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VectorIndex {
    /// Quick to ask, slow to change.
    Hnsw,
    /// Quick to change.
    Ivfflat,
}

/// As given; then, by [`Options::settle`], as they hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// HNSW: links per vector. Absent where there are no vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub m: Option<u16>,
    /// HNSW: candidates per vector while building. Absent where there are no vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ef_construction: Option<u16>,
    /// What finds near profiles. Absent where there are no vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<VectorIndex>,
    /// IVFFlat: lists of vectors. Absent with another index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lists: Option<u32>,
    /// Items of each entity's list. Absent where there are no lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommendations: Option<usize>,
    /// How vectors are given fewer dimensions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reduce: Option<Reduce>,
    /// How far a changed row must be from the stored one to be written, in lengths of its vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Whether rows have what a recurrent encoder carries to an entity's next event.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hidden_states: bool,
}

impl Options {
    pub fn parse(json: &serde_json::Value) -> Result<Options> {
        serde_json::from_value(json.clone()).map_err(|error| {
            Error::new(Code::InvalidParameter, "invalid profile options")
                .detail(format!("{error}.").replace('`', "\""))
                .hint(
                    "Valid options are \"m\" (2 to 100), \"ef_construction\" (4 to 1000), \"index\" (\"hnsw\", or \"ivfflat\" where profiles change \
                     all the time), \"lists\" (1 to 32768: of \"ivfflat\"), \"recommendations\" (how many items each \
                     entity's list has), \"reduce\", such as {\"method\": \"pca\", \"dim\": 16} or {\"method\": \"lda\", \
                     \"label\": \"age\"}, \"threshold\" (0 to 1: how far a vector must have moved to be written), and \"hidden_states\" (true: \
                     a refresh goes on from a recurrent encoder's states instead of reading histories again).",
                )
        })
    }

    /// With the defaults of a family that makes vectors, or of one that does not and has lists instead. `entities`: about how
    /// many there will be, if that is known.
    pub fn settle(&self, vectors: bool, entities: Option<i64>) -> Result<Options> {
        let index = self.index.unwrap_or(VectorIndex::Hnsw);
        let settled = match vectors {
            true => Options {
                m: self.m.or(Some(16)),
                ef_construction: self.ef_construction.or(Some(64)),
                lists: self.lists.or((index == VectorIndex::Ivfflat).then(|| entities.map_or(100, lists))),
                ..self.clone()
            },
            false => Options { recommendations: self.recommendations.or(Some(RECOMMENDATIONS)), ..self.clone() },
        };
        if self.recommendations.is_some() && self.reduce.as_ref().is_some_and(|reduce| !reduce.keeps_products()) {
            return Err(Error::new(
                Code::Unsupported,
                "a profile that is reduced by \"lda\" has no items to recommend",
            )
            .hint("Leave the option \"recommendations\" out, or reduce by \"pca\"."));
        }
        if self.threshold.is_some_and(|threshold| !(0.0..=1.0).contains(&threshold)) {
            return Err(Error::new(Code::InvalidParameter, "the option \"threshold\" must be between 0 and 1")
                .hint("It is a distance in lengths of the vector; 0.01 leaves rows alone that have moved by less than a hundredth."));
        }
        if self.lists.is_some() && index != VectorIndex::Ivfflat {
            return Err(Error::new(Code::InvalidParameter, "the option \"lists\" is one of the index \"ivfflat\"")
                .hint("Leave it out, or add \"index\": \"ivfflat\"."));
        }
        if settled.lists.is_some_and(|lists| !(1..=32_768).contains(&lists)) {
            return Err(Error::new(Code::InvalidParameter, "the option \"lists\" must be between 1 and 32768")
                .hint("A list for every thousand entities is a good number."));
        }
        match (vectors, settled.m.zip(settled.ef_construction)) {
            (false, _) if self.m.or(self.ef_construction).is_some() || self.index.is_some() => {
                Err(Error::new(Code::InvalidParameter, "the profile has no vectors to index")
                    .detail(
                        "The options \"m\", \"ef_construction\", \"index\" and \"lists\" are those of a vector index.",
                    )
                    .hint("Leave them out."))
            }
            (true, Some((m, ef))) if !(2..=100).contains(&m) || !(4..=1000).contains(&ef) || ef < 2 * m => {
                Err(Error::new(Code::InvalidParameter, "profile options out of bounds")
                    .detail(format!("m is {m}, ef_construction is {ef}."))
                    .hint("m is between 2 and 100, ef_construction between 4 and 1000 and at least twice m."))
            }
            _ => Ok(settled),
        }
    }

    /// How many numbers the states of an encoder have, where they are kept and `vectors` leave room for them.
    pub fn carries(&self, encoder: &Encoder, vectors: usize) -> Result<Option<usize>> {
        if !self.hidden_states {
            return Ok(None);
        }
        let carries = encoder.carries().ok_or_else(|| {
            Error::new(Code::Unsupported, "the model has no hidden states that new events can go on from")
                .detail("Only encoders \"rnn\", \"lstm\" and \"gru\" whose pooling is \"last\" have.")
                .hint("Leave the option \"hidden_states\" out.")
        })?;
        if self.recommendations.is_some() {
            return Err(Error::new(Code::Unsupported, "a profile with lists of items cannot go on from hidden states")
                .detail("A list is made of all that an entity has had, which a state does not tell.")
                .hint("Leave the option \"recommendations\" or \"hidden_states\" out."));
        }
        match room(Some(vectors), Some(carries), 0) {
            0 => Err(Error::new(Code::Unsupported, "a row of the profile has no room for hidden states")
                .detail(format!("It must fit a page, and they are {carries} numbers of four bytes."))
                .hint("Leave the option \"hidden_states\" out, or make encoder.dim or encoder.layers smaller.")),
            _ => Ok(Some(carries)),
        }
    }

    /// Refuses lists of more items than a row has room for beside its other columns, whose `labels` are some of.
    pub fn check_room(&self, item: &Column, dim: Option<usize>, labels: usize) -> Result<()> {
        let Some(wanted) = self.recommendations else { return Ok(()) };
        // Two arrays; twice as long where everything was seen; each item with a score of four bytes.
        let most = room(dim, None, labels).saturating_sub(2 * 32) / (2 * (width(item) + 4));
        match (most, (1..=most).contains(&wanted)) {
            (_, true) => Ok(()),
            (0, _) => {
                Err(Error::new(Code::Unsupported, "a row of the profile has no room for a list beside its vector")
                    .detail("It must fit a page.")
                    .hint("Leave the option \"recommendations\" out, or make encoder.dim smaller."))
            }
            _ => Err(Error::new(
                Code::InvalidParameter,
                format!("recommendations must be between 1 and {most}, not {wanted}"),
            )
            .detail(format!(
                "A row of the profile must fit a page, with a list of items of type {} and their scores that can be \
                 twice as long where an entity has had its best items.",
                item.type_name
            ))),
        }
    }
}

/// As pgvector advises: a list for every thousand vectors up to a million, then the root of their number.
fn lists(entities: i64) -> u32 {
    let lists = if entities > 1_000_000 { (entities as f64).sqrt() } else { entities as f64 / 1000.0 };
    (lists as u32).clamp(10, 32_768)
}

/// Bytes of an item in an array. Texts vary: this is the least, and a refresh sees whether there is room.
fn width(item: &Column) -> usize {
    match item.type_oid {
        pg_sys::BOOLOID => 1,
        pg_sys::INT2OID => 2,
        pg_sys::INT4OID => 4,
        pg_sys::UUIDOID => 40,
        _ => 8,
    }
}

/// Bytes that other columns leave for lists: key, four of eight bytes, version; a label's class and probability; vector and
/// states.
fn room(dim: Option<usize>, carries: Option<usize>, labels: usize) -> usize {
    let own = 16 + 5 * 8 + 16 * labels;
    ROOM.saturating_sub(own + dim.map_or(0, |dim| 16 + 2 * dim) + carries.map_or(0, |carries| 16 + 4 * carries))
}
