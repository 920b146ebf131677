//! Versions that an engine makes, and how they are stored.

use crate::catalog::models::Model;
use crate::catalog::versions::Version;
use crate::dialogue::{tell, unexpected};
use crate::error::Result;
use crate::worker::engine::{Engine, Event};
use crate::worker::progress::Reporter;
use persona_core::protocol::{Kind, Metric, Outcome};
use persona_core::source::SourceSchema;
use persona_core::spec::ModelSpec;

/// A version that was stored.
pub struct Made {
    pub number: i32,
    pub metrics: Vec<Metric>,
    pub outcome: Outcome,
}

/// Receives what training makes, and stores it: the version number is taken when the first chunk of
/// weights arrives, so that no transaction writes while epochs run.
pub fn store(
    model: &Model,
    spec: &ModelSpec,
    source: &SourceSchema,
    engine: &mut Engine,
    reporter: &mut Reporter,
) -> Result<Made> {
    let (mut metrics, mut judgements) = (Vec::new(), Vec::new());
    let mut version = None;
    let mut chunk = 0;
    loop {
        let frame = engine.receive(|event| match event {
            Event::Judgement(bytes) => {
                judgements.push(bytes);
                Ok(())
            }
            event => tell(reporter, event, &mut metrics),
        })?;
        match frame.kind {
            Kind::Artifact => {
                let number = match version {
                    Some(number) => number,
                    None => *version.insert(Version::next(model)?),
                };
                Version::add_chunk(model, number, chunk, &frame.payload)?;
                chunk += 1;
            }
            Kind::Done => {
                let outcome: Outcome = frame.parse()?;
                let number = version.ok_or_else(|| unexpected(&frame))?;
                let as_of = outcome.as_of.map(|at| source.clock.text(at));
                Version::create(model, number, spec, source, &outcome, as_of.as_deref())?;
                Version::add_metrics(model, number, &metrics)?;
                judgements.iter().try_for_each(|bytes| Version::add_judgement(model, number, bytes))?;
                return Ok(Made { number, metrics, outcome });
            }
            _ => return Err(unexpected(&frame)),
        }
    }
}
