//! How events are cleaned, as a user declares it in jsonb.

use crate::catalog::sources::DeclaredCleaning;
use crate::error::{Code, Error, Result};
use crate::events::{clock, microseconds};
use crate::relation::Column;
use persona_core::cleaning::{Cleaning, Duplicates};
use persona_core::error::sentence;
use persona_core::source::Clock;
use serde::Deserialize;
use serde_json::Value;

const HINT: &str = "Cleaning is an object such as {\"duplicates\": \"drop\", \"earliest\": \"2000-01-01\", \"latest\": \"now\", \
                    \"winsorize\": 0.01}; what is left out is not cleaned.";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CleaningJson {
    #[serde(default)]
    duplicates: Duplicates,
    /// A time as the clock's type is written, or a number where the clock is one.
    earliest: Option<Value>,
    /// The same, or "now".
    latest: Option<Value>,
    #[serde(default)]
    winsorize: f64,
}

/// `at`: the column of the events' times.
pub fn declare(json: Value, at: &Column) -> Result<DeclaredCleaning> {
    if !json.is_object() {
        return Err(invalid("It is no object."));
    }
    let json: CleaningJson = serde_json::from_value(json).map_err(|e| invalid(sentence(&e.to_string())))?;
    if !(0.0..0.5).contains(&json.winsorize) {
        return Err(invalid(format!("\"winsorize\" must be at least 0 and less than 0.5, not {}.", json.winsorize)));
    }
    let until_now = json.latest == Some(Value::from("now")) && clock(at)?.0.has_calendar();
    let earliest = json.earliest.map(|json| time("earliest", &json, at)).transpose()?;
    let latest = json.latest.filter(|_| !until_now).map(|json| time("latest", &json, at)).transpose()?;
    if earliest.zip(latest).is_some_and(|(earliest, latest)| earliest > latest) {
        return Err(invalid("\"earliest\" must not be after \"latest\"."));
    }
    let cleaning = Cleaning { duplicates: json.duplicates, earliest, latest, winsorize: json.winsorize };
    Ok(DeclaredCleaning { cleaning, until_now })
}

fn invalid(detail: impl Into<String>) -> Error {
    Error::new(Code::InvalidParameter, "invalid cleaning").detail(detail).hint(HINT)
}

/// In the clock's unit. Postgres reads what is written, and raises its own error where it cannot.
fn time(key: &str, json: &Value, at: &Column) -> Result<f64> {
    let time = match (clock(at)?.0, json) {
        (Clock::Number, Value::Number(number)) => number.as_f64(),
        (Clock::Timestamp | Clock::Date, Value::String(text)) => microseconds("$1", at, &[text.as_str().into()])?,
        (Clock::Number, _) => {
            return Err(invalid(format!("\"{key}\" must be a number, as the times of the events are.")));
        }
        (Clock::Timestamp | Clock::Date, _) => {
            return Err(invalid(format!("\"{key}\" must be a time, written as text.")));
        }
    };
    time.filter(|time| time.is_finite()).ok_or_else(|| invalid(format!("\"{key}\" must be finite.")))
}

impl DeclaredCleaning {
    /// As it is when the events are read now.
    pub fn at(&self, at: &Column) -> Result<Cleaning> {
        let latest = match self.until_now {
            true => microseconds("pg_catalog.now()", at, &[])?,
            false => self.cleaning.latest,
        };
        Ok(Cleaning { latest, ..self.cleaning.clone() })
    }
}
