//! Fitted statistics in an artifact: vocabularies as the tensors `field.<i>.values` and
//! `field.<i>.counts`, the buckets of texts as `field.<i>.buckets`, the moments of vectors as
//! `field.<i>.mean` and `field.<i>.std`, everything else as the JSON `fitted`.

use super::{
    Bins, FieldState, Fitted, FittedField, Moments, Numbers, Pace, Scale, Tags, Texts, TimeFeatures, Tokenizer,
    VectorScale, Vocabulary,
};
use crate::artifact::{Artifact, damaged};
use crate::error::Result;
use crate::events::Values;
use serde::{Deserialize, Serialize};

const KEY: &str = "fitted";

#[derive(Serialize, Deserialize)]
struct StoredFitted {
    fields: Vec<StoredField>,
    time: TimeFeatures,
    #[serde(default)]
    pace: Option<Pace>,
    target: Option<usize>,
    cutoffs: Option<(f64, f64)>,
}

#[derive(Serialize, Deserialize)]
struct StoredField {
    name: String,
    state: StoredState,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredState {
    Category,
    Number(Numbers),
    Binned(Bins),
    Text(Tokenizer),
    Tags,
    Ratings,
    Time(Scale),
    Vector,
    Dropped(String),
}

impl Fitted {
    pub fn write(&self, artifact: &mut Artifact) -> Result<()> {
        let mut fields = Vec::with_capacity(self.fields.len());
        for (i, field) in self.fields.iter().enumerate() {
            let state = match &field.state {
                FieldState::Category(vocabulary) => {
                    vocabulary.write(artifact, &tensor_name(i));
                    StoredState::Category
                }
                FieldState::Number(numbers) => StoredState::Number(numbers.clone()),
                FieldState::Binned(bins) => StoredState::Binned(bins.clone()),
                FieldState::Text(texts) => {
                    artifact.put_u32(&format!("{}.buckets", tensor_name(i)), &texts.buckets);
                    StoredState::Text(texts.tokenizer.clone())
                }
                FieldState::Tags(tags) => {
                    tags.vocabulary.write(artifact, &tensor_name(i));
                    StoredState::Tags
                }
                FieldState::Ratings => StoredState::Ratings,
                FieldState::Time(moments) => StoredState::Time(moments.scale.clone()),
                FieldState::Vector(scale) => {
                    scale.write(artifact, &tensor_name(i));
                    StoredState::Vector
                }
                FieldState::Dropped(reason) => StoredState::Dropped(reason.clone()),
            };
            fields.push(StoredField { name: field.name.clone(), state });
        }
        let (time, pace, target, cutoffs) = (self.time.clone(), self.pace.clone(), self.target, self.cutoffs);
        artifact.put_json(KEY, &StoredFitted { fields, time, pace, target, cutoffs })
    }

    pub fn read(artifact: &Artifact) -> Result<Self> {
        let mut stored: StoredFitted = artifact.get_json(KEY)?;
        let field = |(i, field): (usize, StoredField)| {
            let state = match field.state {
                StoredState::Category => FieldState::Category(Vocabulary::read(artifact, &tensor_name(i))?),
                StoredState::Number(numbers) => FieldState::Number(numbers),
                StoredState::Binned(bins) => FieldState::Binned(bins),
                StoredState::Text(tokenizer) => FieldState::Text(Texts::read(artifact, &tensor_name(i), tokenizer)?),
                StoredState::Tags => FieldState::Tags(Tags::read(artifact, &tensor_name(i))?),
                StoredState::Ratings => FieldState::Ratings,
                StoredState::Time(scale) => FieldState::Time(Moments { scale }),
                StoredState::Vector => FieldState::Vector(VectorScale::read(artifact, &tensor_name(i))?),
                StoredState::Dropped(reason) => FieldState::Dropped(reason),
            };
            Ok(FittedField { name: field.name, state })
        };
        let fields =
            std::mem::take(&mut stored.fields).into_iter().enumerate().map(field).collect::<Result<Vec<_>>>()?;
        let is_category =
            |target: usize| matches!(fields.get(target), Some(FittedField { state: FieldState::Category(_), .. }));
        if stored.target.is_some_and(|target| !is_category(target)) {
            return Err(damaged("Its target is not a category."));
        }
        let StoredFitted { time, pace, target, cutoffs, .. } = stored;
        Ok(Fitted { fields, time, pace, target, cutoffs })
    }
}

fn tensor_name(field: usize) -> String {
    format!("field.{field}")
}

impl Vocabulary {
    fn write(&self, artifact: &mut Artifact, name: &str) {
        artifact.put_values(&format!("{name}.values"), &self.values);
        let counts: Vec<i64> = self.counts.iter().map(|&count| count as i64).collect();
        artifact.put_i64(&format!("{name}.counts"), &counts);
    }

    fn read(artifact: &Artifact, name: &str) -> Result<Self> {
        let values = artifact.get_values(&format!("{name}.values"))?;
        let counts: Vec<u64> =
            artifact.get_i64(&format!("{name}.counts"))?.into_iter().map(i64::cast_unsigned).collect();
        match counts.len() == values.len() {
            true => Ok(Vocabulary::new(values, counts)),
            false => Err(damaged(format!("\"{name}\" has {} values and {} counts.", values.len(), counts.len()))),
        }
    }
}

impl Texts {
    fn read(artifact: &Artifact, name: &str, tokenizer: Tokenizer) -> Result<Self> {
        let buckets = artifact.get_u32(&format!("{name}.buckets"))?;
        match buckets.is_sorted_by(|a, b| a < b) {
            true => Ok(Texts { tokenizer, buckets }),
            false => Err(damaged(format!("\"{name}\" has buckets that do not ascend."))),
        }
    }
}

impl Tags {
    fn read(artifact: &Artifact, name: &str) -> Result<Self> {
        let vocabulary = Vocabulary::read(artifact, name)?;
        match vocabulary.values {
            Values::Text(_) => Ok(Tags { vocabulary }),
            Values::Integer(_) => Err(damaged(format!("\"{name}\" has tags that are no text."))),
        }
    }
}
