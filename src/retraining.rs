//! Replacing a model's live version, and taking that back: alias and profiles change in one transaction.
//!
//! Training ends its first transaction when it has scanned. The second stores the version, builds every profile by it beside the
//! live one, and at its end exchanges storage and moves the alias. Nobody sees any of it before, and an error or a cancel
//! leaves nothing behind.

use crate::catalog::models::Model;
use crate::catalog::previous::{self, Previous};
use crate::catalog::profiles;
use crate::error::{Code, Error, Result};
use crate::pg::procedure::Phases;
use crate::pg::session_lock::SessionLock;
use crate::profile::{must_own, open};
use crate::refresh::{self, Renewal};
use crate::relation::Relation;
use crate::training::Training;
use crate::worker::progress::Reporter;
use pgrx::pg_sys::Oid;
use pgrx::spi::quote_literal;

/// Trains a version and makes it live together with all of the model's profiles. `keep`: what these held can be rolled back to.
/// Returns its number.
pub fn retrain(name: &str, incremental: bool, keep: bool, phases: &Phases, reporter: &mut Reporter) -> Result<i32> {
    let training = Training::of(name, incremental, reporter)?;
    let model = &training.model;
    profiles::forget_dropped()?;
    own_profiles(model)?.into_iter().try_for_each(|profile| refresh::could_take(profile, &training))?;
    let made = training.run(phases, reporter)?;
    // The model is locked now. Profiles may have come and gone while epochs ran.
    let profiles = own_profiles(model)?;
    let _locks = lock(&profiles, phases.is_atomic());
    let renew = |&profile: &Oid| refresh::renew(profile, made.number, phases.is_atomic(), reporter);
    let renewals = profiles.iter().map(renew).collect::<Result<Vec<Renewal>>>()?;
    let kept = model.alias("live")?.filter(|_| keep).map(|live| (live, made.number));
    model.set_alias("live", made.number)?;
    refresh::take_over(&renewals, kept)?;
    phases.commit();
    training.announce(&made, reporter);
    renewals.iter().for_each(|renewal| renewal.tell(reporter));
    renewals.iter().try_for_each(Renewal::analyze)?;
    Ok(made.number)
}

/// Exchanges a model's alias and profiles with what was kept of them. Returns the version that is live.
pub fn rollback(name: &str) -> Result<i32> {
    let model = Model::find(name)?;
    // No training, no change of the alias and no new profile until this transaction ends.
    model.lock("UPDATE")?;
    let profiles = own_profiles(&model)?;
    // Nor a refresh; one that is running ends first.
    lock(&profiles, true);
    let live = model.live()?;
    let kept = profiles.iter().map(|&profile| kept_of(&model, profile, live)).collect::<Result<Vec<_>>>()?;
    let Some(back) = kept.first().map(|(previous, _)| previous.live) else {
        return Err(Error::new(Code::NotInPrerequisiteState, format!("model \"{name}\" has no profiles to roll back"))
            .hint("Let another version be live by persona.set_alias; the versions are in persona.versions."));
    };
    kept.iter().try_for_each(|(previous, _)| previous.exchange())?;
    model.set_alias("live", back)?;
    let pairs: Vec<(Relation, Oid)> = kept.into_iter().flat_map(|(_, pairs)| pairs).collect();
    refresh::exchange(&pairs)?;
    Ok(back)
}

/// Drops what is kept of a model's profiles. Of how many it was.
pub fn drop_previous(name: &str) -> Result<i64> {
    let model = Model::find(name)?;
    model.lock("UPDATE")?;
    profiles::forget_dropped()?;
    let mut dropped = 0;
    for profile in own_profiles(&model)? {
        dropped += i64::from(previous::forget(profile)?);
    }
    Ok(dropped)
}

/// The model's profiles; an error where one is not the current user's.
fn own_profiles(model: &Model) -> Result<Vec<Oid>> {
    let profiles = profiles::of_model(model)?;
    profiles.iter().try_for_each(|&profile| must_own(&Relation::open(profile, "profile")?))?;
    Ok(profiles)
}

fn lock(profiles: &[Oid], atomic: bool) -> Vec<SessionLock> {
    profiles.iter().filter_map(|&profile| SessionLock::take(profile, atomic)).collect()
}

/// What is kept of a profile, if the version that is live has replaced it; and each live table with the one that is kept.
fn kept_of(model: &Model, profile: Oid, live: i32) -> Result<(Previous, Vec<(Relation, Oid)>)> {
    let (profile, relation) = open(profile)?;
    let name = quote_literal(&model.name);
    let previous = Previous::of(relation.oid)?.ok_or_else(|| {
        Error::new(
            Code::NotInPrerequisiteState,
            format!("nothing is kept of profile \"{}\" to roll back to", relation.name),
        )
        .detail(
            "What a profile held is kept when its model is retrained with keep => true, until it is filled by another version.",
        )
        .hint(format!(
            "Let another version be live by persona.set_alias({name}, 'live', …) and refresh the profiles of the model."
        ))
    })?;
    if previous.replaced_by != live {
        let message = format!(
            "version {live} of model \"{}\" is live, and what is kept of profile \"{}\" was replaced by version {}",
            model.name, relation.name, previous.replaced_by
        );
        return Err(Error::new(Code::NotInPrerequisiteState, message).hint(format!(
            "Let that one be live by persona.set_alias({name}, 'live', {}), and roll back then.",
            previous.replaced_by
        )));
    }
    let items = profile.items.zip(previous.items);
    let items = items.map(|(live, kept)| Ok::<_, Error>((Relation::open(live, "item table of the profile")?, kept)));
    let pairs = std::iter::once(Ok((relation, previous.kept))).chain(items).collect::<Result<Vec<_>>>()?;
    Ok((previous, pairs))
}
