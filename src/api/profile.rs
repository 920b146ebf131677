use super::given;
use crate::pg::procedure::Phases;
use crate::pg::regclass::Regclass;
use crate::recommend::{self, Entity};
use crate::relation::Relation;
use crate::worker::progress::Reporter;
use crate::{profile, refresh};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid, default};

/// Makes a profile table for a model, empty, and where the model makes vectors the table of items' beside it.
#[pg_extern(volatile, parallel_unsafe)]
fn create_profile(
    profile: Option<&str>,
    model: Option<&str>,
    options: default!(Option<JsonB>, "'{}'"),
) -> Result<(), ErrorReport> {
    let options = given(options, "options")?;
    Ok(profile::create(given(profile, "profile")?, given(model, "model")?, &options.0)?)
}

/// Fills a profile from the events as they are now.
#[pg_extern(
    name = "refresh",
    sql = "CREATE PROCEDURE refresh(profile regclass) LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
fn refresh_profile(profile: Option<Regclass>, fcinfo: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    let profile = given(profile, "profile")?.0;
    let name = Relation::open(profile, "profile")?.sql_name();
    let mut reporter = Reporter::foreground("refresh", &name);
    let phases = Phases::of_call(fcinfo);
    refresh::refresh_profile(profile, &phases, &mut reporter)?;
    phases.finish();
    Ok(())
}

/// Drops a profile and its table of item vectors.
#[pg_extern(volatile, parallel_unsafe)]
fn drop_profile(profile: Option<Regclass>) -> Result<(), ErrorReport> {
    Ok(profile::drop_profile(given(profile, "profile")?.0)?)
}

/// The items that the entity is likeliest to have next, best first: from its list, or by inner products of profile
/// and item vectors.
#[pg_extern(name = "recommend", stable, strict, parallel_restricted)]
fn recommend_integer(
    profile: Regclass,
    entity: i64,
    k: default!(i32, 10),
    exclude_seen: default!(bool, false),
) -> Result<TableIterator<'static, (name!(item, String), name!(score, f32))>, ErrorReport> {
    Ok(TableIterator::new(recommend::recommend(profile.0, &Entity::Integer(entity), k, exclude_seen)?))
}

/// The items that the entity is likeliest to have next, best first: from its list, or by inner products of profile
/// and item vectors.
#[pg_extern(name = "recommend", stable, strict, parallel_restricted)]
fn recommend_text(
    profile: Regclass,
    entity: &str,
    k: default!(i32, 10),
    exclude_seen: default!(bool, false),
) -> Result<TableIterator<'static, (name!(item, String), name!(score, f32))>, ErrorReport> {
    Ok(TableIterator::new(recommend::recommend(profile.0, &Entity::Text(entity.to_string()), k, exclude_seen)?))
}

/// The items that the entity is likeliest to have next, best first: from its list, or by inner products of profile
/// and item vectors.
#[pg_extern(name = "recommend", stable, strict, parallel_restricted)]
fn recommend_uuid(
    profile: Regclass,
    entity: Uuid,
    k: default!(i32, 10),
    exclude_seen: default!(bool, false),
) -> Result<TableIterator<'static, (name!(item, String), name!(score, f32))>, ErrorReport> {
    Ok(TableIterator::new(recommend::recommend(profile.0, &Entity::Uuid(entity), k, exclude_seen)?))
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
