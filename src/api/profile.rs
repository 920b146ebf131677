use super::given;
use crate::events::Entities;
use crate::mode::{self, Mode};
use crate::pg::procedure::Phases;
use crate::pg::regclass::Regclass;
use crate::recommend::{self, Entity};
use crate::relation::Relation;
use crate::worker::progress::Reporter;
use crate::{profile, refresh};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid, default};

/// Makes a profile table for a model, empty, and where the model makes vectors the table of items' beside it.
#[pg_extern(volatile, parallel_unsafe)]
fn create_profile(
    profile: Option<&str>,
    model: Option<&str>,
    options: default!(Option<JsonB>, "'{}'"),
    mode: default!(Option<&str>, "'batch'"),
) -> Result<(), ErrorReport> {
    let (options, mode) = (given(options, "options")?, Mode::parse(given(mode, "mode")?)?);
    let profile = profile::create(given(profile, "profile")?, given(model, "model")?, &options.0)?;
    Ok(mode::set(profile, mode)?)
}

/// Says how a profile is brought up to date: `batch`, when it is refreshed, or `live`, by itself.
#[pg_extern(volatile, parallel_unsafe)]
fn alter_profile(profile: Option<Regclass>, mode: Option<&str>) -> Result<(), ErrorReport> {
    let (profile, mode) = (given(profile, "profile")?.0, Mode::parse(given(mode, "mode")?)?);
    Ok(mode::set(profile, mode)?)
}

/// Brings a profile up to the events as they are now.
#[pg_extern(
    name = "refresh",
    sql = "CREATE PROCEDURE refresh(profile regclass, everything boolean DEFAULT false) \
           LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
fn refresh_profile(
    profile: Option<Regclass>,
    everything: Option<bool>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let (profile, everything) = (given(profile, "profile")?.0, given(everything, "everything")?);
    let name = Relation::open(profile, "profile")?.sql_name();
    let mut reporter = Reporter::foreground("refresh", &name);
    let phases = Phases::of_call(fcinfo);
    refresh::refresh_profile(profile, everything, &phases, &mut reporter)?;
    phases.finish();
    Ok(())
}

/// Scores some entities of a profile anew, and says where their rows differ from what is stored.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity)]
fn verify(
    profile: Option<Regclass>,
    n: default!(Option<i32>, 100),
) -> Result<
    TableIterator<'static, (name!(entity, String), name!(distance, Option<f64>), name!(columns, Vec<String>))>,
    ErrorReport,
> {
    let (profile, n) = (given(profile, "profile")?.0, given(n, "n")?);
    let name = Relation::open(profile, "profile")?.sql_name();
    let mut reporter = Reporter::foreground("verify", &name);
    let (drawn, differences) = refresh::verify(profile, n, &mut reporter)?;
    reporter.say(&format!("{} of {drawn} rows differ from what their events say now", differences.len()));
    Ok(TableIterator::new(differences.into_iter().map(|d| (d.entity, d.distance, d.columns))))
}

/// The row that an entity would have had at a time, as JSON.
#[pg_extern(name = "profile_as_of", volatile, parallel_unsafe)]
fn profile_as_of_integer(
    profile: Option<Regclass>,
    entity: Option<i64>,
    time: Option<TimestampWithTimeZone>,
    version: default!(Option<i32>, "NULL"),
) -> Result<Option<JsonB>, ErrorReport> {
    let entity = given(entity, "entity")?;
    as_of(profile, Entities::Integers(vec![entity]), time, version)
}

/// The row that an entity would have had at a time, as JSON.
#[pg_extern(name = "profile_as_of", volatile, parallel_unsafe)]
fn profile_as_of_text(
    profile: Option<Regclass>,
    entity: Option<&str>,
    time: Option<TimestampWithTimeZone>,
    version: default!(Option<i32>, "NULL"),
) -> Result<Option<JsonB>, ErrorReport> {
    let entity = given(entity, "entity")?;
    as_of(profile, Entities::Texts(vec![entity.to_string()]), time, version)
}

/// The row that an entity would have had at a time, as JSON.
#[pg_extern(name = "profile_as_of", volatile, parallel_unsafe)]
fn profile_as_of_uuid(
    profile: Option<Regclass>,
    entity: Option<Uuid>,
    time: Option<TimestampWithTimeZone>,
    version: default!(Option<i32>, "NULL"),
) -> Result<Option<JsonB>, ErrorReport> {
    let entity = given(entity, "entity")?;
    as_of(profile, Entities::Texts(vec![entity.to_string()]), time, version)
}

fn as_of(
    profile: Option<Regclass>,
    entity: Entities,
    time: Option<TimestampWithTimeZone>,
    version: Option<i32>,
) -> Result<Option<JsonB>, ErrorReport> {
    let (profile, time) = (given(profile, "profile")?.0, given(time, "time")?);
    let name = Relation::open(profile, "profile")?.sql_name();
    let mut reporter = Reporter::foreground("profile_as_of", &name);
    Ok(refresh::as_of(profile, entity, time, version, &mut reporter)?)
}

/// The row of an entity as JSON: what is stored, or if `fresh` what a refresh would write now.
#[pg_extern(name = "score", stable, strict, parallel_restricted)]
fn score_integer(profile: Regclass, entity: i64, fresh: default!(bool, false)) -> Result<Option<JsonB>, ErrorReport> {
    Ok(refresh::score(profile.0, Entities::Integers(vec![entity]), fresh)?)
}

/// The row of an entity as JSON: what is stored, or if `fresh` what a refresh would write now.
#[pg_extern(name = "score", stable, strict, parallel_restricted)]
fn score_text(profile: Regclass, entity: &str, fresh: default!(bool, false)) -> Result<Option<JsonB>, ErrorReport> {
    Ok(refresh::score(profile.0, Entities::Texts(vec![entity.to_string()]), fresh)?)
}

/// The row of an entity as JSON: what is stored, or if `fresh` what a refresh would write now.
#[pg_extern(name = "score", stable, strict, parallel_restricted)]
fn score_uuid(profile: Regclass, entity: Uuid, fresh: default!(bool, false)) -> Result<Option<JsonB>, ErrorReport> {
    Ok(refresh::score(profile.0, Entities::Texts(vec![entity.to_string()]), fresh)?)
}

/// Drops a profile and its table of item vectors.
#[pg_extern(volatile, parallel_unsafe)]
fn drop_profile(profile: Option<Regclass>) -> Result<(), ErrorReport> {
    let profile = given(profile, "profile")?.0;
    mode::set(profile, Mode::Batch)?;
    Ok(profile::drop_profile(profile)?)
}

/// The items that the entity is likeliest to have next, best first: from its list, or by inner products of profile
/// and item vectors; if `fresh` by its events as they are now.
#[pg_extern(name = "recommend", stable, strict, parallel_restricted)]
fn recommend_integer(
    profile: Regclass,
    entity: i64,
    k: default!(i32, 10),
    exclude_seen: default!(bool, false),
    fresh: default!(bool, false),
) -> Result<TableIterator<'static, (name!(item, String), name!(score, f32))>, ErrorReport> {
    Ok(TableIterator::new(recommend::recommend(profile.0, &Entity::Integer(entity), k, exclude_seen, fresh)?))
}

/// The items that the entity is likeliest to have next, best first: from its list, or by inner products of profile
/// and item vectors; if `fresh` by its events as they are now.
#[pg_extern(name = "recommend", stable, strict, parallel_restricted)]
fn recommend_text(
    profile: Regclass,
    entity: &str,
    k: default!(i32, 10),
    exclude_seen: default!(bool, false),
    fresh: default!(bool, false),
) -> Result<TableIterator<'static, (name!(item, String), name!(score, f32))>, ErrorReport> {
    Ok(TableIterator::new(recommend::recommend(profile.0, &Entity::Text(entity.to_string()), k, exclude_seen, fresh)?))
}

/// The items that the entity is likeliest to have next, best first: from its list, or by inner products of profile
/// and item vectors; if `fresh` by its events as they are now.
#[pg_extern(name = "recommend", stable, strict, parallel_restricted)]
fn recommend_uuid(
    profile: Regclass,
    entity: Uuid,
    k: default!(i32, 10),
    exclude_seen: default!(bool, false),
    fresh: default!(bool, false),
) -> Result<TableIterator<'static, (name!(item, String), name!(score, f32))>, ErrorReport> {
    Ok(TableIterator::new(recommend::recommend(profile.0, &Entity::Uuid(entity), k, exclude_seen, fresh)?))
}

/// The entities most like this one, best first: cosines of profile vectors.
#[pg_extern(name = "similar", stable, strict, parallel_restricted)]
fn similar_integer(
    profile: Regclass,
    entity: i64,
    k: default!(i32, 10),
) -> Result<TableIterator<'static, (name!(entity, String), name!(similarity, f32))>, ErrorReport> {
    Ok(TableIterator::new(recommend::similar(profile.0, &Entity::Integer(entity), k)?))
}

/// The entities most like this one, best first: cosines of profile vectors.
#[pg_extern(name = "similar", stable, strict, parallel_restricted)]
fn similar_text(
    profile: Regclass,
    entity: &str,
    k: default!(i32, 10),
) -> Result<TableIterator<'static, (name!(entity, String), name!(similarity, f32))>, ErrorReport> {
    Ok(TableIterator::new(recommend::similar(profile.0, &Entity::Text(entity.to_string()), k)?))
}

/// The entities most like this one, best first: cosines of profile vectors.
#[pg_extern(name = "similar", stable, strict, parallel_restricted)]
fn similar_uuid(
    profile: Regclass,
    entity: Uuid,
    k: default!(i32, 10),
) -> Result<TableIterator<'static, (name!(entity, String), name!(similarity, f32))>, ErrorReport> {
    Ok(TableIterator::new(recommend::similar(profile.0, &Entity::Uuid(entity), k)?))
}
