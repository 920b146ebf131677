//! Several trained versions as one: their probabilities of items mixed, with weights from validation.
//!
//! A blend holds its parts whole, as tensors of bytes in its own artifact, so that it is as immutable as they are.

use crate::cpu;
use crate::error::{Failure, Result};
use crate::evaluate::{Protocol, counted_scores, model_scores};
use crate::report::{INTERVAL, Reporter};
use crate::version::{Trained, Version};
use persona_core::artifact::{Artifact, Dtype, TensorData};
use persona_core::events::Events;
use persona_core::features::{Encoded, FIRST, Fitted};
use persona_core::protocol::{Phase, Progress};
use persona_core::rankers::blend::{self, Scale};
use persona_core::spec::Training;
use persona_core::split::{Case, sample};
use persona_core::threads::each;
use persona_core::{Error, ErrorKind};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const WEIGHTS: &str = "blend.weights";
const PARTS: &str = "blend.parts";

/// The most validation cases that weights are fitted to.
const CASES: usize = 20_000;

/// Cases whose scores are held together for each part.
const BATCH: usize = 256;

pub struct Blend {
    parts: Vec<Part>,
    weights: Vec<f64>,
}

/// A version, and the events as it sees them.
struct Part {
    bytes: Vec<u8>,
    trained: Trained,
    encoded: Encoded,
}

impl Blend {
    /// Opens stored versions over the same events. `own`: the blend's fitted statistics; `training`: how it is judged.
    pub fn open(stored: Vec<Vec<u8>>, events: &Events, own: &Fitted, training: &Training) -> Result<Self> {
        let mut parts = Vec::with_capacity(stored.len());
        for bytes in stored {
            let version = Version::parse(&bytes)?;
            if version.fitted.items().map(|items| &items.values) != own.items().map(|items| &items.values) {
                return Err(other(
                    "knows other items than there are now",
                    "Train the models of the blend again, then the blend.",
                ));
            }
            if version.spec.training.split != training.split || version.fitted.cutoffs != own.cutoffs {
                return Err(other(
                    "was judged by another split, so that the blend's validation would be what it was trained on",
                    "Train the models of the blend and the blend on the same events with the same training.split, valid and test.",
                ));
            }
            let encoded = version.fitted.encode(events.clone())?;
            let trained = version.open(&encoded)?;
            parts.push(Part { bytes, trained, encoded });
        }
        let weights = vec![1.0 / parts.len() as f64; parts.len()];
        Ok(Blend { parts, weights })
    }

    /// Opens a stored blend.
    pub fn read(artifact: &Artifact, events: &Events, own: &Fitted, training: &Training) -> Result<Self> {
        let weights: Vec<f64> = artifact.get_json(WEIGHTS)?;
        let part = |i: usize| artifact.tensors.get(&name(i)).map(|tensor| tensor.bytes.clone());
        let stored: Vec<Vec<u8>> = (0..weights.len()).map_while(part).collect();
        if stored.len() != weights.len() {
            let error = Error::new(ErrorKind::InvalidData, "the stored model version is damaged");
            return Err(error.detail("A part of the blend is missing.").hint("Train the blend again.").into());
        }
        Ok(Blend { weights, ..Blend::open(stored, events, own, training)? })
    }

    pub fn write(&self, artifact: &mut Artifact) -> Result<()> {
        for (i, part) in self.parts.iter().enumerate() {
            let bytes = part.bytes.clone();
            artifact.tensors.insert(name(i), TensorData { dtype: Dtype::U8, shape: vec![bytes.len()], bytes });
        }
        Ok(artifact.put_json(WEIGHTS, &self.weights)?)
    }

    /// The weights that rank the validation cases best, by NDCG at the first cut-off.
    pub fn fit(
        &mut self,
        protocol: &Protocol,
        encoded: &Encoded,
        valid: &[Case],
        reporter: &mut Reporter,
    ) -> Result<()> {
        let cases: Vec<Case> = valid.iter().filter(|case| protocol.counts(encoded, case)).copied().collect();
        let cases = sample(&cases, CASES, &mut ChaCha8Rng::seed_from_u64(protocol.seed));
        let mut kept = Vec::with_capacity(cases.len());
        for batch in cases.chunks(BATCH) {
            let rows = self.probabilities(protocol, encoded, batch)?;
            let items = encoded.items();
            let all = batch.iter().enumerate().collect();
            kept.extend(each(all, protocol.threads, |(i, case): (usize, &Case)| {
                let rows: Vec<&[f32]> = rows.iter().map(|row| &row[i * items..(i + 1) * items]).collect();
                let target = encoded.target_codes()[case.target] - FIRST;
                blend::Case::new(&rows, target as usize, &protocol.seen(encoded, case))
            }));
            if reporter.due(INTERVAL) {
                reporter.tell(Progress::of(Phase::Train, kept.len() as u64, cases.len() as u64))?;
            }
        }
        self.weights = blend::fit(&kept, self.parts.len(), protocol.evaluation.k[0], protocol.threads);
        Ok(())
    }

    /// One for each part, in order.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Mixed probabilities, what was seen on their scale: [cases, items], row-major
    pub fn scores(&self, protocol: &Protocol, encoded: &Encoded, cases: &[Case]) -> Result<Vec<f32>> {
        let mut mixed = Vec::with_capacity(cases.len() * encoded.items());
        for batch in cases.chunks(BATCH) {
            let rows = self.probabilities(protocol, encoded, batch)?;
            let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let from = mixed.len();
            mixed.resize(from + batch.len() * encoded.items(), 0.0);
            blend::mix(&rows, &self.weights, &mut mixed[from..]);
        }
        Ok(mixed)
    }

    /// By part, each [cases, items]
    fn probabilities(&self, protocol: &Protocol, encoded: &Encoded, cases: &[Case]) -> Result<Vec<Vec<f32>>> {
        let seen = each(cases.iter().collect(), protocol.threads, |case| protocol.seen(encoded, case));
        let part = |part: &Part| {
            let (mut scores, scale) = match &part.trained {
                Trained::Network(model) => {
                    let scores = model_scores(model, &part.encoded, cases)?;
                    (cpu::floats(&scores)?.to_vec(), Scale::Softmax)
                }
                Trained::Counts(counts) => {
                    (counted_scores(counts.ranker(), &part.encoded, cases, protocol.threads), Scale::Share)
                }
                Trained::Blend(blend) => (blend.scores(protocol, &part.encoded, cases)?, Scale::Share),
            };
            let rows = seen.iter().zip(scores.chunks_exact_mut(encoded.items())).collect();
            each(rows, protocol.threads, |(seen, row): (&Vec<u32>, &mut [f32])| {
                blend::probabilities(row, seen, scale);
            });
            Ok(scores)
        };
        self.parts.iter().map(part).collect()
    }
}

fn other(what: &str, hint: &str) -> Failure {
    Error::new(ErrorKind::InvalidData, format!("a model of the blend {what}")).hint(hint).into()
}

fn name(part: usize) -> String {
    format!("{PARTS}.{part}")
}
