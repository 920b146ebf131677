//! `persona.compressed`: what smaller versions were made of, and what they lost and gained.

use super::models::Model;
use super::*;
use persona_core::protocol::Compressed;
use persona_core::spec::VersionName;
use pgrx::JsonB;
use serde_json::{Value, json};

impl Model {
    /// Records how a version was made of another one.
    pub fn add_compression(
        &self,
        version: i32,
        original: &VersionName,
        options: &Value,
        compressed: &Compressed,
    ) -> Result<()> {
        let figures = json!(compressed.figures);
        run(
            "INSERT INTO persona.compressed (model, version, owner, original, options, figures, bytes_before, bytes_after, \
                 zeros, speed_before, speed_after) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            &[
                self.name.as_str().into(),
                version.into(),
                self.owner.into(),
                original.to_string().into(),
                JsonB(options.clone()).into(),
                JsonB(figures).into(),
                (compressed.bytes_before as i64).into(),
                (compressed.bytes_after as i64).into(),
                compressed.zeros.into(),
                compressed.speed_before.into(),
                compressed.speed_after.into(),
            ],
        )?;
        Ok(())
    }
}
