//! The best items by an entity's events as they are now: ranked by the engine over all items, as stored lists are.

use super::{Ask, Entity, Ranked};
use crate::error::{Code, Error, Result};
use crate::events::Entities;
use crate::refresh;

/// The `k` items with the highest scores.
pub fn recommend(ask: &Ask, exclude_seen: bool) -> Result<Ranked> {
    let entity = match ask.entity {
        Entity::Integer(key) => Entities::Integers(vec![*key]),
        Entity::Text(key) => Entities::Texts(vec![key.clone()]),
        Entity::Uuid(key) => Entities::Texts(vec![key.to_string()]),
    };
    let most = ask.k.unsigned_abs() as usize;
    let list = refresh::list(ask.profile, &entity, most)?.ok_or_else(|| {
        Error::new(Code::NoDataFound, format!("entity {} has no events", ask.entity.quoted()))
            .hint("persona.encode answers for events that are in no table.")
    })?;
    let seen = if exclude_seen { ask.seen()? } else { Vec::new() };
    Ok(list.into_iter().filter(|(item, _)| seen.binary_search(item).is_err()).take(most).collect())
}
