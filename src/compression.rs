//! Making a version smaller: the job, and what it reports.

use crate::catalog::models::Model;
use crate::catalog::sources::Source;
use crate::catalog::versions::same_fields;
use crate::dialogue::{Work, release_snapshot, tell_notes};
use crate::error::{Code, Error, Result};
use crate::events::EventQuery;
use crate::pg::procedure::Phases;
use crate::stored::Stored;
use crate::worker::progress::Reporter;
use crate::{made, transfer};
use persona_core::metrics::telling;
use persona_core::protocol::{Ask, Compressed, Task};
use persona_core::spec::{Compression, Split, VersionName, families_of, is_network, listed};
use pgrx::spi::quote_literal;
use serde_json::Value;

/// Makes a smaller version of a model's live version, or of `model@3`, which is not live. Returns its number.
pub fn compress(name: &str, options: &Value, phases: &Phases, reporter: &mut Reporter) -> Result<i32> {
    let compression = Compression::parse(options)?;
    let (model, version) = transfer::find(&VersionName::from(name.to_string()))?;
    let kind = version.spec.encoder.kind();
    if !is_network(kind) {
        return Err(Error::new(Code::Unsupported, format!("encoder \"{kind}\" counts and has no weights to compress"))
            .hint(format!("Families that have are {}.", listed(families_of(is_network)))));
    }
    if version.spec.training.split == Split::KFold {
        let message =
            format!("version {} of model \"{}\" has no held-out part to judge it by", version.number, model.name);
        return Err(Error::new(Code::Unsupported, message)
            .detail("It was judged in folds, and has itself trained on every entity.")
            .hint("Train the model with training.split \"random\", and compress that version."));
    }
    let source = Source::of_model(&model)?;
    let query = EventQuery::of(&source)?;
    same_fields(&model, &version, &query.schema)?;
    let beside = EventQuery::beside(&source, version.spec.objective.labels())?;
    let ask = Ask { compression: Some(compression), ..Ask::default() };
    let (spec, stored) = (Some(&version.spec), &[Stored::subject(&model, &version)]);
    let work = Work { task: Task::Compress, ask, query: &query, beside: &beside, spec, stored };
    let mut engine = work.begin(reporter)?;
    release_snapshot(phases, reporter);
    let stored = made::store(&model, &version.spec, &query.schema, &mut engine, reporter)?;
    let compressed = stored.outcome.compressed.as_ref().ok_or_else(|| {
        Error::new(Code::Engine, "the engine did not say what it compressed")
            .hint("Install the extension and the engine anew.")
    })?;
    let original = VersionName { model: model.name.clone(), version: Some(version.number) };
    model.add_compression(stored.number, &original, options, compressed)?;
    reporter.say(&summary(&model, stored.number, &original, compressed));
    reporter.say(&format!(
        "it becomes live by persona.set_alias({}, 'live', {})",
        quote_literal(&model.name),
        stored.number
    ));
    tell_notes(&stored.outcome, reporter);
    Ok(stored.number)
}

/// A line about a version beside the one that it was made of.
pub fn summary(model: &Model, number: i32, original: &VersionName, compressed: &Compressed) -> String {
    let Compressed { figures, bytes_before, bytes_after, zeros, speed_before, speed_after } = compressed;
    let figure = figures.iter().find(|figure| telling(&figure.metric)).or(figures.first());
    let figure = figure.map(|figure| {
        format!(", {} {} {:.4} instead of {:.4}", figure.split, figure.metric, figure.after, figure.before)
    });
    format!(
        "model \"{}\" version {number} beside \"{original}\": {bytes_after} bytes instead of {bytes_before}, {:.0} % zeros, \
         {speed_after:.0} entities/s instead of {speed_before:.0}{}",
        model.name,
        100.0 * zeros,
        figure.unwrap_or_default()
    )
}
