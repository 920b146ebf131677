//! Specifications that several tests ask for.

use persona_core::source::SourceSchema;
use persona_core::spec::ModelSpec;
use serde_json::{Value, json};

/// A short training on the CPU, of so many epochs. `training`: what else is said of it.
pub fn short(source: &SourceSchema, epochs: u32, encoder: Value, objective: Value, training: Value) -> ModelSpec {
    let mut spec = json!({
        "encoder": encoder,
        "objective": objective,
        "training": {"epochs": epochs, "patience": epochs, "batch_events": 256, "learning_rate": 0.01, "warmup": 5,
                     "valid": 0.2, "test": 0.2, "device": "cpu"},
        "evaluation": {"k": [5, 1], "seen": "keep"},
    });
    let Value::Object(training) = training else { panic!("no object") };
    spec["training"].as_object_mut().unwrap().extend(training);
    ModelSpec::parse(&spec, source).unwrap()
}

pub fn next() -> Value {
    json!({"kind": "next_event", "field": "item"})
}

/// Of the label `again`.
pub fn again() -> Value {
    json!({"kind": "classify", "label": "again", "min_examples": 10})
}
