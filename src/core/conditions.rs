//! Conditions to train a model again: `{"age": "7 days", "new_events": "5%", "metric": {"name": "ndcg@10", "below": 0.05},
//! "drift": {"psi": 0.2}}`. Any that holds is enough.

use crate::drift::Bounds;
use crate::error::{Error, Result, sentence};
use serde::Deserialize;
use serde_json::{Map, Value};

/// One reason to train again. A condition is an entry here.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The live version is older than this interval, as Postgres writes it.
    Age(String),
    /// So many events have come since the newest that the live version knows.
    NewEvents(Amount),
    /// A figure has crossed a bound.
    Metric(Bound),
    /// What has come since the newest event that the live version knows is not like what it knows.
    Drift(Bounds),
}

/// A number of events, or a share of those that the live version was trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    Count(u64),
    /// 0 to 1 for up to as many as there were.
    Share(f64),
}

/// A figure of `persona.evaluate` and what it must not cross.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    pub name: String,
    #[serde(default = "test")]
    pub split: String,
    #[serde(default)]
    pub below: Option<f64>,
    #[serde(default)]
    pub above: Option<f64>,
}

fn test() -> String {
    "test".into()
}

const HINT: &str = "Conditions are \"age\" (an interval), \"new_events\" (a number, or a share such as \"5%\"), \"metric\" \
                    (an object with name, split, and below or above) and \"drift\" (an object with one or more of psi, \
                    js, energy and decay).";

/// The conditions of a JSON object, those first that are asked at least cost; none where it is empty.
pub fn parse(json: &Value) -> Result<Vec<Condition>> {
    let Some(entries) = json.as_object() else {
        return Err(Error::invalid("conditions must be a JSON object").hint(HINT));
    };
    let mut conditions = entries.iter().map(|(name, value)| condition(name, value)).collect::<Result<Vec<_>>>()?;
    conditions.sort_by_key(|condition| matches!(condition, Condition::Drift(_)));
    Ok(conditions)
}

fn condition(name: &str, value: &Value) -> Result<Condition> {
    let invalid = |why: String| Error::invalid(format!("invalid condition \"{name}\"")).detail(why).hint(HINT);
    let entry = Value::Object(Map::from_iter([(name.to_string(), value.clone())]));
    let condition = serde_json::from_value(entry).map_err(|e| invalid(sentence(&e.to_string())))?;
    match &condition {
        Condition::Metric(bound) if bound.below.is_some() == bound.above.is_some() => {
            Err(invalid("A metric has one bound, \"below\" or \"above\".".into()))
        }
        Condition::Drift(bounds) => match bounds.check() {
            Ok(()) => Ok(condition),
            Err(why) => Err(invalid(why.into())),
        },
        _ => Ok(condition),
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let wrong = || serde::de::Error::custom("an amount of events is a positive number, or a share such as \"5%\"");
        let amount = match Value::deserialize(deserializer)? {
            Value::Number(number) => number.as_u64().filter(|&n| n > 0).map(Amount::Count),
            Value::String(text) => {
                let share = text.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
                share.filter(|share| share.is_finite() && *share > 0.0).map(|share| Amount::Share(share / 100.0))
            }
            _ => None,
        };
        amount.ok_or_else(wrong)
    }
}

impl Amount {
    /// How many new events are enough, where there were `known`.
    pub fn of(self, known: u64) -> u64 {
        match self {
            Amount::Count(count) => count,
            Amount::Share(share) => ((known as f64 * share).ceil() as u64).max(1),
        }
    }
}

impl Bound {
    pub fn is_crossed_by(&self, value: f64) -> bool {
        self.below.is_some_and(|bound| value < bound) || self.above.is_some_and(|bound| value > bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_condition_is_read() {
        let conditions =
            parse(&json!({"age": "7 days", "metric": {"name": "ndcg@10", "below": 0.05}, "new_events": "5%"})).unwrap();
        let bound = Bound { name: "ndcg@10".into(), split: "test".into(), below: Some(0.05), above: None };
        assert_eq!(
            conditions,
            [Condition::Age("7 days".into()), Condition::Metric(bound), Condition::NewEvents(Amount::Share(0.05))]
        );
        assert_eq!(parse(&json!({})).unwrap(), []);
        let drift = Condition::Drift(Bounds { psi: Some(0.2), js: None, energy: None, decay: None });
        let conditions = parse(&json!({"drift": {"psi": 0.2}, "new_events": 10})).unwrap();
        assert_eq!(conditions, [Condition::NewEvents(Amount::Count(10)), drift], "what reads all events is not last");
    }

    #[test]
    fn a_condition_that_makes_no_sense_is_refused_with_its_name() {
        for conditions in [
            json!({"mood": 1}),
            json!({"age": 7}),
            json!({"new_events": 0}),
            json!({"new_events": "many"}),
            json!({"new_events": "-5%"}),
            json!({"metric": {"name": "ndcg@10"}}),
            json!({"metric": {"name": "ndcg@10", "below": 0.1, "above": 0.2}}),
            json!({"metric": {"name": "ndcg@10", "below": 0.1, "by": "day"}}),
            json!({"drift": 0.2}),
            json!({"drift": {}}),
            json!({"drift": {"psi": -1}}),
            json!({"drift": {"kl": 0.2}}),
        ] {
            let error = parse(&conditions).unwrap_err();
            let name = conditions.as_object().unwrap().keys().next().unwrap();
            assert!(error.message.contains(name.as_str()), "{error}");
            assert!(error.detail.is_some() && error.hint.is_some());
        }
        assert!(parse(&json!([])).is_err());
    }

    #[test]
    fn a_share_is_of_what_was_known_and_never_nothing() {
        assert_eq!(Amount::Share(0.05).of(1001), 51);
        assert_eq!(Amount::Share(0.05).of(0), 1);
        assert_eq!(Amount::Count(7).of(1_000_000), 7);
    }

    #[test]
    fn a_bound_is_crossed_on_its_side_alone() {
        let below = Bound { name: "auc".into(), split: "test".into(), below: Some(0.5), above: None };
        assert!(below.is_crossed_by(0.4) && !below.is_crossed_by(0.5));
        let above = Bound { below: None, above: Some(1.0), ..below };
        assert!(above.is_crossed_by(1.1) && !above.is_crossed_by(0.9));
    }
}
