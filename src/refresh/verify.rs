//! Rows beside what the events of entities drawn at random say now.

use super::Target;
use super::changed::{differs, distance, stage, start};
use crate::error::Result;
use crate::events::Entities;
use crate::pg::identity::as_table_owner;
use crate::pg::local_settings::LocalSettings;
use crate::pg::staged::Staged;
use crate::relation::Column;
use crate::worker::progress::Reporter;
use pgrx::pg_sys::Oid;
use pgrx::spi::{quote_identifier, quote_literal};

/// Numbers that are so near are equal: how they are rounded depends on what is computed beside them.
const TOLERANCE: f64 = 1e-3;

/// An entity whose row is not what its events say now.
pub struct Difference {
    pub entity: String,
    /// How far the vectors are apart, in lengths of the stored one; absent where there is none.
    pub distance: Option<f64>,
    /// Columns that differ.
    pub columns: Vec<String>,
}

/// Scores at most `n` entities of a profile anew, drawn at random, and says where their rows differ; an entity that no
/// longer has events has no row to compare.
pub fn verify(table: Oid, n: i32, reporter: &mut Reporter) -> Result<(usize, Vec<Difference>)> {
    let target = Target::filled(table)?;
    let drawn = draw(&target, n)?;
    if drawn.len() == 0 {
        return Ok((0, Vec::new()));
    }
    let mut engine = start(&target, &drawn, None, reporter)?;
    let differences =
        as_table_owner(target.relation.owner, || compare(&target, &drawn, &stage(&target, &mut engine, reporter)?))?;
    Ok((drawn.len(), differences))
}

fn draw(target: &Target, n: i32) -> Result<Entities> {
    let mut drawn = Entities::none(target.key()?)?;
    let sql = format!(
        "SELECT {} FROM {} ORDER BY pg_catalog.random() LIMIT {}",
        drawn.selected(target.key()?),
        target.relation.sql_name(),
        n.max(0)
    );
    drawn.add(&sql)?;
    Ok(drawn)
}

fn compare(target: &Target, drawn: &Entities, staged: &Staged) -> Result<Vec<Difference>> {
    let _path = LocalSettings::safe_path();
    let key = quote_identifier(&target.key()?.name);
    let compared = target.relation.columns.iter().filter(|column| column.name != "updated_at");
    let named = |column: &Column| {
        // A row that is not there differs in all.
        let differs = differs(column, Some(TOLERANCE), "p", "s")?;
        Ok(format!("CASE WHEN s.{key} IS NULL OR {differs} THEN {} END", quote_literal(&column.name)))
    };
    let differing = compared.map(named).collect::<Result<Vec<_>>>()?;
    let distance = match target.profile.vectors {
        true => distance("p", "s")?,
        false => "NULL::pg_catalog.float8".to_string(),
    };
    let sql = format!(
        "SELECT * FROM (SELECT p.{key}::pg_catalog.text AS entity, {distance} AS distance, \
             pg_catalog.array_remove(ARRAY[{}]::pg_catalog.text[], NULL) AS columns \
             FROM {} AS p LEFT JOIN staged AS s ON s.{key} = p.{key} WHERE p.{}) AS d \
         WHERE pg_catalog.cardinality(columns) > 0 ORDER BY distance DESC NULLS FIRST, entity",
        differing.join(", "),
        target.relation.sql_name(),
        drawn.condition(target.key()?)
    );
    staged.query(&sql, &[], |row| {
        let columns = row.get::<Vec<Option<String>>>(3)?.unwrap_or_default().into_iter().flatten().collect();
        Ok(Difference { entity: row.get(1)?.unwrap_or_default(), distance: row.get(2)?, columns })
    })
}
