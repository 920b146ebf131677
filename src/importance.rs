//! Which features tell how much of a label: of a source's events, or to a trained model.

use crate::catalog::models::Model;
use crate::catalog::sources::Source;
use crate::catalog::versions::{Version, same_fields};
use crate::dialogue::{Said, Work, tell_notes};
use crate::error::{Code, Error, Result};
use crate::events::EventQuery;
use crate::stored::Stored;
use crate::worker::progress::Reporter;
use persona_core::importance::Importance;
use persona_core::protocol::{Ask, Kind, Task};
use persona_core::spec::listed;

/// What a name is of.
enum Of {
    Source,
    Model,
}

/// The features of the source or of the model of this name. `of` says which where there are both.
pub fn rank_features(name: &str, label: &str, of: Option<&str>, reporter: &mut Reporter) -> Result<Vec<Importance>> {
    match kind(name, of)? {
        Of::Source => of_source(&Source::find(name)?, label, reporter),
        Of::Model => of_model(Model::find(name)?, label, reporter),
    }
}

fn kind(name: &str, of: Option<&str>) -> Result<Of> {
    match of {
        Some("source") => return Ok(Of::Source),
        Some("model") => return Ok(Of::Model),
        Some(other) => {
            return Err(Error::new(Code::InvalidParameter, format!("features are of no \"{other}\""))
                .hint("They are of a \"source\" or of a \"model\"."));
        }
        None => {}
    }
    match (Source::exists(name)?, Model::exists(name)?) {
        (true, false) => Ok(Of::Source),
        (false, true) => Ok(Of::Model),
        (true, true) => Err(Error::new(Code::InvalidParameter, format!("\"{name}\" is both a source and a model"))
            .hint("Say which with of => 'source' or of => 'model'.")),
        (false, false) => Err(Error::new(Code::UndefinedObject, format!("\"{name}\" is neither a source nor a model"))
            .hint("See persona.sources and persona.models for what there is.")),
    }
}

fn of_source(source: &Source, label: &str, reporter: &mut Reporter) -> Result<Vec<Importance>> {
    let names = || source.labels.iter().map(|declared| declared.label.name.as_str());
    if !names().any(|name| name == label) {
        return Err(unknown_label(&format!("source \"{}\"", source.name), label, names()));
    }
    let query = EventQuery::of(source)?;
    let beside = EventQuery::beside(source, std::iter::once(label))?;
    let ask = Ask { label: Some(label.to_string()), ..Ask::default() };
    receive(Work { task: Task::Rank, ask, query: &query, beside: &beside, spec: None, stored: &[] }, reporter)
}

fn of_model(model: Model, label: &str, reporter: &mut Reporter) -> Result<Vec<Importance>> {
    let version = Version::find(&model, model.live()?)?;
    let learned = || version.spec.objective.labels();
    if !learned().any(|name| name == label) {
        return Err(unknown_label(&format!("model \"{}\"", model.name), label, learned()));
    }
    let source = Source::of_model(&model)?;
    let query = EventQuery::of(&source)?;
    same_fields(&model, &version, &query.schema)?;
    let beside = EventQuery::beside(&source, learned())?;
    let ask = Ask { label: Some(label.to_string()), ..Ask::default() };
    let (spec, stored) = (Some(&version.spec), &[Stored::subject(&model, &version)]);
    receive(Work { task: Task::Permute, ask, query: &query, beside: &beside, spec, stored }, reporter)
}

fn receive(work: Work, reporter: &mut Reporter) -> Result<Vec<Importance>> {
    let said = Said::by(&mut work.begin(reporter)?, Kind::Features, reporter)?;
    tell_notes(&said.outcome, reporter);
    Ok(said.rows)
}

fn unknown_label<'a>(of: &str, label: &str, known: impl Iterator<Item = &'a str>) -> Error {
    Error::new(Code::UndefinedObject, format!("{of} has no label \"{label}\""))
        .hint(format!("Its labels are {}.", listed(known)))
}
