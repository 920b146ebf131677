//! What is stored and a job needs: versions and what belongs to them, sent to the engine each with what it is for.

use crate::catalog::models::Model;
use crate::catalog::sources::Source;
use crate::catalog::versions::Version;
use crate::error::{Code, Error, Result};
use crate::transfer;
use crate::worker::engine::Engine;
use persona_core::protocol::{ARTIFACT_CHUNK, Frame, Kind, Role};
use persona_core::source::SourceSchema;
use persona_core::spec::{Encoder, ModelSpec};

pub enum Stored {
    Version(Role, Model, Box<Version>),
    Bytes(Role, Vec<u8>),
}

impl Stored {
    /// The version that a job is about.
    pub fn subject(model: &Model, version: &Version) -> Stored {
        Stored::Version(Role::Subject, model.clone(), Box::new(version.clone()))
    }

    /// What training by a specification needs.
    pub fn for_training(spec: &ModelSpec, source: &Source, schema: &SourceSchema) -> Result<Vec<Stored>> {
        let start = transfer::start(spec, schema)?;
        let start = start.map(|(model, version)| Stored::Version(Role::Start, model, Box::new(version)));
        let teacher = transfer::teacher(spec, source, schema)?;
        let teacher = teacher.map(|(model, version)| Stored::Version(Role::Teacher, model, Box::new(version)));
        let Encoder::Blend(blend) = &spec.encoder else { return Ok(start.into_iter().chain(teacher).collect()) };
        blend.models.iter().map(|name| mixed(name, spec, source)).collect()
    }

    fn send(&self, engine: &mut Engine) -> Result<()> {
        match self {
            Stored::Version(role, model, version) => {
                engine.send(&Frame::json(Kind::Part, role)?)?;
                let mut chunk = 0;
                while let Some(bytes) = Version::chunk(model, version.number, chunk)? {
                    engine.send(&Frame::new(Kind::Artifact, bytes))?;
                    chunk += 1;
                }
                Ok(())
            }
            Stored::Bytes(role, bytes) => {
                engine.send(&Frame::json(Kind::Part, role)?)?;
                let mut chunks = bytes.chunks(ARTIFACT_CHUNK);
                chunks.try_for_each(|chunk| engine.send(&Frame::new(Kind::Artifact, chunk.to_vec())))
            }
        }
    }
}

/// Sends what is stored, which is the last that the engine reads. A resident engine may have the version, and asks if not.
pub fn send(stored: &[Stored], engine: &mut Engine) -> Result<()> {
    let resident = engine.is_resident();
    let kept = |stored: &&Stored| resident && matches!(stored, Stored::Version(Role::Subject, ..));
    stored.iter().filter(|stored| !kept(stored)).try_for_each(|stored| stored.send(engine))?;
    engine.send(&Frame::new(Kind::End, Vec::new()))?;
    if resident && engine.wants_version()? {
        stored.iter().filter(kept).try_for_each(|stored| stored.send(engine))?;
        engine.send(&Frame::new(Kind::End, Vec::new()))?;
    }
    Ok(())
}

/// The live version of a model that a blend mixes.
fn mixed(name: &str, spec: &ModelSpec, source: &Source) -> Result<Stored> {
    let model = Model::find(name)?;
    if model.source != source.name {
        return Err(Error::new(
            Code::InvalidParameter,
            format!("model \"{name}\" is over source \"{}\", the blend over \"{}\"", model.source, source.name),
        )
        .hint("A blend mixes models of one source."));
    }
    let version = Version::find(&model, model.live()?)?;
    match version.spec.encoder {
        Encoder::Blend(_) => Err(Error::new(Code::Unsupported, format!("model \"{name}\" is a blend itself"))
            .hint("Mix the models that it mixes.")),
        _ if version.spec.objective.next_event().map(|next| &next.field)
            != spec.objective.next_event().map(|next| &next.field) =>
        {
            Err(Error::new(Code::Unsupported, format!("model \"{name}\" does not predict what the blend does"))
                .hint("A blend mixes models whose objective next_event has its field."))
        }
        _ => Ok(Stored::Version(Role::Mixed, model, Box::new(version))),
    }
}
