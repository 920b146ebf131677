//! A stored version, and what it has learned.

use crate::blend::Blend;
use crate::counts::Counts;
use crate::device::{self, Compute};
use crate::error::Result;
use crate::evaluate::Scorer;
use crate::inputs::Shape;
use crate::models::Model;
use persona_core::Error;
use persona_core::artifact::Artifact;
use persona_core::events::Events;
use persona_core::features::{Encoded, Fitted};
use persona_core::labels::FittedLabel;
use persona_core::protocol::{Job, Outcome};
use persona_core::source::SourceSchema;
use persona_core::spec::{Encoder, ModelSpec};

/// Keys of what an artifact says about itself, beside what core's modules put there.
pub const SPEC: &str = "spec";
pub const SOURCE: &str = "source";
/// The newest event's time.
pub const AS_OF: &str = "as_of";

/// A stored version.
pub struct Version {
    pub artifact: Artifact,
    /// As trained, but with the device and precision of this job.
    pub spec: ModelSpec,
    pub fitted: Fitted,
    pub labels: Vec<FittedLabel>,
}

/// What a version has learned, ready to be asked.
pub enum Trained {
    Network(Box<Model>),
    Counts(Box<Counts>),
    Blend(Box<Blend>),
}

impl Trained {
    /// `batch_events`: of a network's batches.
    pub fn scorer(&self, batch_events: usize) -> Scorer<'_> {
        match self {
            Trained::Network(model) => Scorer::Model { model, batch_events },
            Trained::Counts(counts) => Scorer::Ranker(counts.ranker()),
            Trained::Blend(blend) => Scorer::Blend(blend),
        }
    }

    fn describe(&self, outcome: &mut Outcome) {
        match self {
            Trained::Network(model) => describe_model(model, outcome),
            Trained::Counts(counts) => counted(outcome, counts.entries()),
            Trained::Blend(blend) => counted(outcome, blend.weights().len() as u64),
        }
    }
}

impl Version {
    pub fn read(bytes: &[u8], job: &Job) -> Result<Self> {
        let mut version = Version::parse(bytes)?;
        let source: SourceSchema = version.artifact.get_json(SOURCE)?;
        if !source.has_events_of(&job.source) {
            return Err(Error::invalid("the source has changed since the model was trained")
                .detail("Its key, its clock or its fields are not those of the training.")
                .hint("Train the model again.")
                .into());
        }
        if let Some(now) = &job.spec {
            version.spec.training.device = now.training.device.clone();
            version.spec.training.precision = now.training.precision;
        }
        Ok(version)
    }

    /// Time of the newest event that there was; `None` where the version does not say.
    pub fn as_of(&self) -> Result<Option<f64>> {
        if self.artifact.meta.contains_key(AS_OF) { Ok(self.artifact.get_json(AS_OF)?) } else { Ok(None) }
    }

    /// A version from its bytes alone.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let artifact = Artifact::from_bytes(bytes)?;
        let (spec, fitted) = (artifact.get_json(SPEC)?, Fitted::read(&artifact)?);
        Ok(Version { spec, fitted, labels: FittedLabel::read_all(&artifact)?, artifact })
    }

    pub fn encode(&self, events: Events, outcome: &mut Outcome) -> Result<Encoded> {
        outcome.fingerprint = events.fingerprint();
        outcome.notes.extend(self.fitted.changes(&events));
        let encoded = self.fitted.encode(events)?;
        outcome.notes.extend(unrated(&encoded));
        outcome.items = encoded.items() as u64;
        Ok(encoded)
    }

    /// The events as this version sees them, and what it has learned.
    pub fn restore(&self, events: Events, outcome: &mut Outcome) -> Result<(Encoded, Trained)> {
        let blend = match self.spec.encoder {
            Encoder::Blend(_) => Some(Blend::read(&self.artifact, &events, &self.fitted, &self.spec.training)?),
            _ => None,
        };
        let encoded = self.encode(events, outcome)?;
        let trained = match blend {
            Some(blend) => Trained::Blend(Box::new(blend)),
            None => self.open(&encoded)?,
        };
        trained.describe(outcome);
        Ok((encoded, trained))
    }

    /// What a version that is no blend has learned. Over events that were encoded as it sees them.
    pub fn open(&self, encoded: &Encoded) -> Result<Trained> {
        if let Some(counts) = Counts::read(&self.spec.encoder, &self.artifact)? {
            return Ok(Trained::Counts(Box::new(counts)));
        }
        let compute = Compute::choose(&self.spec.training.device, self.spec.training.precision)?;
        let source: SourceSchema = self.artifact.get_json(SOURCE)?;
        let shape = Shape::of(encoded, &self.labels).learning(&self.spec.objective, source.clock.day());
        let mut model = Model::new(&self.spec.encoder, &shape, compute)?;
        model.parameters.read(&self.artifact)?;
        Ok(Trained::Network(Box::new(model)))
    }
}

/// A sentence about events without a rating, if there are any.
pub fn unrated(encoded: &Encoded) -> Option<String> {
    let unrated = encoded.unrated();
    (unrated > 0).then(|| format!("{unrated} events have no rating and are passed over."))
}

/// What an outcome says of a family that is no network.
pub fn counted(outcome: &mut Outcome, parameters: u64) {
    outcome.parameters = parameters;
    (outcome.device, outcome.precision) = ("cpu".into(), "f32".into());
}

/// What an outcome says of a network.
pub fn describe_model(model: &Model, outcome: &mut Outcome) {
    outcome.parameters = model.parameters.count();
    outcome.device = model.compute.device_name();
    outcome.precision = model.compute.precision_name().into();
    outcome.libtorch = device::LIBTORCH.into();
}
