//! Beginning with another version's weights, and going on with those of the live one.

use crate::catalog::models::Model;
use crate::catalog::sources::Source;
use crate::catalog::versions::{Version, same_fields};
use crate::error::{Code, Error, Result};
use persona_core::source::{Field, SourceSchema, ValueType};
use persona_core::spec::{ModelSpec, Objective, Split, VersionName, families_of, is_network, listed, no_weights};

/// The version that training by a specification begins with; none where it draws its weights. An error where nothing of it
/// could be used over the source `now`.
pub fn start(spec: &ModelSpec, now: &SourceSchema) -> Result<Option<(Model, Version)>> {
    let Some(name) = &spec.training.init_from else { return Ok(None) };
    let (model, version) = find(name)?;
    if !is_network(version.spec.encoder.kind()) {
        return Err(no_weights(&version.spec.encoder).into());
    }
    same_kinds(name, &version.source.with_attributes(), &now.with_attributes())?;
    Ok(Some((model, version)))
}

/// The version that training by a specification learns from, if it names one. An error where it has nothing to say over the
/// source, or nothing of what is to be learned.
pub fn teacher(spec: &ModelSpec, source: &Source, now: &SourceSchema) -> Result<Option<(Model, Version)>> {
    let Some(teacher) = &spec.training.teacher else { return Ok(None) };
    let (model, version) = find(&teacher.model)?;
    let name = &teacher.model;
    if !is_network(version.spec.encoder.kind()) {
        let message = format!("encoder \"{}\" counts and cannot be a teacher", version.spec.encoder.kind());
        return Err(Error::new(Code::Unsupported, message)
            .hint(format!("Families that can are {}.", listed(families_of(is_network)))));
    }
    if model.source != source.name {
        let message =
            format!("the teacher \"{name}\" is over source \"{}\", the model over \"{}\"", model.source, source.name);
        return Err(Error::new(Code::InvalidParameter, message).hint("A teacher reads the same events as its student."));
    }
    same_fields(&model, &version, now)?;
    let theirs = &version.spec.objective;
    let taught = spec.objective.iter().any(|own| theirs.iter().any(|other| own.taught_by(other)));
    match taught {
        true => Ok(Some((model, version))),
        false => {
            let of = |objective: &Objective| {
                format!("{} of \"{}\"", objective.kind(), objective.field().or(objective.label()).unwrap_or_default())
            };
            let learned: Vec<String> = theirs.iter().map(of).collect();
            Err(Error::new(
                Code::InvalidParameter,
                format!("the teacher \"{name}\" does not predict what the model is to learn"),
            )
            .detail(format!("It has learned {}.", learned.join(", ")))
            .hint("A teacher has the field of next_event, or a label, in common with its student."))
        }
    }
}

/// The version of a name, of a model that the current user may use.
pub fn find(name: &VersionName) -> Result<(Model, Version)> {
    let model = Model::find(&name.model)?;
    let number = name.version.map_or_else(|| model.live(), Ok)?;
    let version = Version::find(&model, number)?;
    Ok((model, version))
}

/// The same specification with the versions that it names, each by its number.
pub fn resolved(spec: &ModelSpec) -> Result<ModelSpec> {
    let mut spec = spec.clone();
    let training = &mut spec.training;
    let teacher = training.teacher.as_mut().map(|teacher| &mut teacher.model);
    for name in training.init_from.iter_mut().chain(teacher) {
        let (model, version) = find(name)?;
        *name = VersionName { model: model.name, version: Some(version.number) };
    }
    Ok(spec)
}

/// By what a model's live version is trained further; `None` where its family counts, and so is trained anew.
pub fn incremental(model: &Model, version: &Version) -> Result<Option<ModelSpec>> {
    let mut spec = version.spec.clone();
    if !is_network(spec.encoder.kind()) {
        return Ok(None);
    }
    let refused = |what: &str, why: &str| {
        let message = format!("model \"{}\" cannot be trained incrementally with {what}", model.name);
        let hint = format!("Train it anew with CALL persona.train({}).", pgrx::spi::quote_literal(&model.name));
        Err(Error::new(Code::Unsupported, message).detail(why).hint(hint))
    };
    if spec.training.split == Split::KFold {
        return refused("training.split \"k_fold\"", "Every entity has trained its live version, so none can test it.");
    }
    if spec.training.select.is_some() {
        return refused("training.select", "What is new can be no part of what was selected.");
    }
    spec.training.init_from = Some(VersionName { model: model.name.clone(), version: Some(version.number) });
    Ok(Some(spec))
}

/// Fields of one name must mean the same, and there must be one.
fn same_kinds(name: &VersionName, theirs: &SourceSchema, ours: &SourceSchema) -> Result<()> {
    let mut common = 0;
    for field in &ours.fields {
        let Some((_, other)) = theirs.field(&field.name) else { continue };
        if !alike(field, other) {
            let message = format!("field \"{}\" is not what \"{name}\" was trained on under that name", field.name);
            return Err(Error::new(Code::DatatypeMismatch, message)
                .detail(format!("It is {}, there it was {}.", described(field), described(other)))
                .hint("Rename the column in a view, or declare it in create_source as it was."));
        }
        common += 1;
    }
    match common {
        0 => Err(Error::new(Code::InvalidParameter, format!("the source has no field that \"{name}\" was trained on"))
            .detail(format!("Its fields were {}.", names(theirs)))
            .hint("Begin with a version over fields of the same names.")),
        _ => Ok(()),
    }
}

fn alike(a: &Field, b: &Field) -> bool {
    (a.kind, a.value) == (b.kind, b.value)
}

/// `of kind category over integers`
fn described(field: &Field) -> String {
    let values = match field.value {
        ValueType::Integer => "integers".to_string(),
        ValueType::Text => "text".to_string(),
        ValueType::Number => "numbers".to_string(),
        ValueType::Vector(width) => format!("vectors of {width} numbers"),
    };
    format!("of kind {} over {values}", field.kind.name())
}

fn names(schema: &SourceSchema) -> String {
    let names: Vec<String> = schema.fields.iter().map(|field| format!("\"{}\"", field.name)).collect();
    names.join(", ")
}
