//! Families and objectives that learn from sequences alone: each learns its toy task, is stored, judged again and scored.

use crate::driver::{Answer, job};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch};
use persona_core::ErrorKind;
use persona_core::protocol::{Metric, Task};
use persona_core::source::{
    Clock, Field, FieldKind, KeyType, Label, LabelKind, LabelOrigin, SourceSchema, Upcoming, ValueType,
};
use persona_core::spec::ModelSpec;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

fn source() -> SourceSchema {
    let item = Field::new("item", FieldKind::Category, ValueType::Integer);
    let upcoming = Upcoming { event: [("item".to_string(), "0".to_string())].into(), absent: false, within: 2.0 };
    let again = Label { name: "again".into(), kind: LabelKind::Class, origin: LabelOrigin::Events(upcoming) };
    SourceSchema { labels: vec![again], ..SourceSchema::new(KeyType::Integer, Clock::Number, vec![item]) }
}

fn table(entities: i64, events: i64, item: impl Fn(i64, i64) -> i64) -> RecordBatch {
    let rows = || (0..entities).flat_map(|entity| (0..events).map(move |event| (entity, event)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows().map(|(entity, _)| entity))),
        Arc::new(Float64Array::from_iter_values(rows().map(|(_, event)| event as f64))),
        Arc::new(Int64Array::from_iter_values(rows().map(|(entity, event)| item(entity, event)))),
    ];
    RecordBatch::try_new(source().arrow(), columns).unwrap()
}

/// Entities of each of three kinds have five items of their own, and go through them in order.
fn cycles() -> RecordBatch {
    table(150, 10, |entity, event| entity % 3 * 5 + (entity / 3 + event) % 5)
}

/// Every other event is noise; the rest is one of two items, and no two entities have the same two.
fn tastes() -> RecordBatch {
    table(240, 24, |entity, event| match event % 4 {
        0 | 2 => (entity * 7919 + event * 104_729) % 31 % 10,
        1 => 10 + entity % 20,
        _ => 30 + entity / 20,
    })
}

fn spec(encoder: Value, objective: Value, split: &str) -> ModelSpec {
    // Slices need others in their batch, orders many steps, and a decoder that is cut once a window more of them.
    let (epochs, batch, rate) = match (objective["kind"].as_str(), encoder["kind"].as_str()) {
        (Some("contrastive"), _) => (15, 256, 0.01),
        (_, Some("encoder_decoder")) => (120, 64, 0.003),
        _ => (40, 64, 0.01),
    };
    let spec = json!({
        "encoder": encoder,
        "objective": objective,
        "training": {"split": split, "epochs": epochs, "patience": epochs, "batch_events": batch, "learning_rate": rate,
                     "warmup": 5, "valid": 0.2, "test": 0.2, "device": "cpu"},
        "evaluation": {"k": [5, 3, 1], "seen": "keep"},
    });
    ModelSpec::parse(&spec, &source()).unwrap()
}

fn small(kind: &str) -> Value {
    match kind {
        "dnn" => json!({"kind": "dnn", "dim": 16, "members": 2, "layers": 1, "dropout": 0.1}),
        "encoder_decoder" => json!({"kind": kind, "dim": 16, "length": 9, "dropout": 0.0}),
        "autoencoder" => json!({"kind": kind, "dim": 8, "width": 16, "length": 12, "dropout": 0.0}),
        "dbn" => json!({"kind": kind, "dim": 8, "width": 16, "pretraining_rate": 0.1}),
        kind => json!({"kind": kind, "dim": 16, "length": 9, "dropout": 0.1}),
    }
}

fn run(task: Task, spec: &ModelSpec, events: &RecordBatch, artifact: &[u8]) -> Answer {
    let job = job(task, &source(), Some(spec), 1);
    let answer = crate::driver::run(
        Path::new(env!("CARGO_BIN_EXE_persona-engine")),
        &job,
        artifact,
        std::slice::from_ref(events),
        |_| {},
    );
    assert!(matches!(answer.result, Some(Ok(_))), "{:?}", answer.result);
    answer
}

fn of_version(answer: &Answer) -> Vec<Metric> {
    answer.metrics.iter().filter(|metric| metric.epoch.is_none()).cloned().collect()
}

fn test_metric(answer: &Answer, name: &str) -> f64 {
    let all = of_version(answer);
    all.iter().find(|m| m.split == "test" && m.metric == name).unwrap_or_else(|| panic!("no {name} in {all:?}")).value
}

/// Of all entities or items, one after the other.
fn vectors(batches: &[RecordBatch], column: usize) -> Vec<Vec<f32>> {
    let halves = |bytes: &[u8]| bytes.chunks(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
    let column = batches[0].column(column).as_fixed_size_binary();
    (0..column.len()).map(|row| halves(column.value(row))).collect()
}

/// Trains; the same again is the same version, judged again has the same figures, and is scored the same.
fn version(spec: &ModelSpec, events: &RecordBatch) -> (Answer, Answer) {
    let answer = run(Task::Train, spec, events, &[]);
    assert!(run(Task::Train, spec, events, &[]).artifact == answer.artifact, "{spec:?}");
    assert_eq!(run(Task::Evaluate, spec, events, &answer.artifact).metrics, of_version(&answer), "{spec:?}");
    let scored = run(Task::Score, spec, events, &answer.artifact);
    assert_eq!(run(Task::Score, spec, events, &answer.artifact).profiles, scored.profiles);
    (answer, scored)
}

#[test]
fn slices_of_one_entity_become_alike() {
    let events = tastes();
    for (kind, loss, split) in
        [("transformer", "margin", "random"), ("gru", "softmax", "temporal"), ("dnn", "softmax", "random")]
    {
        let objective = json!({"kind": "contrastive", "loss": loss, "min_length": 4, "max_length": 12});
        let (answer, scored) = version(&spec(small(kind), objective, split), &events);
        let recall = test_metric(&answer, "slices.recall@1");
        assert!(recall > 0.5, "{kind}: {recall}");
        assert!(test_metric(&answer, "slices.mrr") >= recall);
        let first = answer.metrics.iter().find(|m| m.epoch == Some(1) && m.metric == "slices.mrr").unwrap();
        assert!(test_metric(&answer, "slices.mrr") > first.value + 0.1, "{kind}: from {}", first.value);
        assert_eq!(vectors(&scored.profiles, 4).len(), 240);
        assert!(scored.items.is_empty());
    }
}

#[test]
fn too_short_histories_have_no_slices() {
    let spec = spec(small("gru"), json!({"kind": "contrastive", "min_length": 60}), "random");
    let job = job(Task::Train, &source(), Some(&spec), 1);
    let answer = crate::driver::run(Path::new(env!("CARGO_BIN_EXE_persona-engine")), &job, &[], &[tastes()], |_| {});
    let error = answer.result.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::InsufficientData);
    assert_eq!(error.message, "no two entities have enough events to be told apart");
}

/// The profile is the state of a hidden event after the last, so its best item is what comes next.
#[test]
fn hidden_events_are_told_from_both_sides() {
    let encoder = json!({"kind": "transformer", "causal": false, "dim": 16, "length": 9, "dropout": 0.1});
    let (answer, scored) =
        version(&spec(encoder, json!({"kind": "masked_event", "field": "item"}), "random"), &cycles());
    let rate = test_metric(&answer, "hr@1");
    assert!(rate > 0.9, "{rate}");
    let (profiles, items) = (vectors(&scored.profiles, 4), vectors(&scored.items, 2));
    let names = scored.items[0].column(0).as_primitive::<arrow_array::types::Int64Type>();
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let right = (0..150).filter(|&entity| {
        let best = (0..items.len())
            .max_by(|&a, &b| product(&profiles[entity], &items[a]).total_cmp(&product(&profiles[entity], &items[b])));
        names.value(best.unwrap()) == entity as i64 % 3 * 5 + (entity as i64 / 3 + 10) % 5
    });
    let right = right.count();
    assert!(right > 135, "{right}");
}

#[test]
fn a_bag_is_told_from_its_profile() {
    let objective = json!({"kind": "reconstruct", "field": "item", "denoising": 0.2});
    for (kind, split) in [
        ("transformer", "random"),
        ("dnn", "random"),
        ("gru", "temporal"),
        ("autoencoder", "random"),
        ("dbn", "random"),
    ] {
        let (answer, scored) = version(&spec(small(kind), objective.clone(), split), &cycles());
        // Five items of fifteen, each as likely; within a period there are two of them.
        let perplexity = test_metric(&answer, "reconstruct.perplexity");
        assert!(perplexity < 6.0, "{kind}: {perplexity}");
        assert!(test_metric(&answer, "reconstruct.recall@5") > 0.95, "{kind}");
        assert_eq!(vectors(&scored.items, 2)[0].len(), vectors(&scored.profiles, 4)[0].len());
    }
}

#[test]
fn a_sequence_is_told_from_its_profile() {
    let objective = json!({"kind": "reconstruct", "field": "item", "decoder": "sequence"});
    for kind in ["gru", "autoencoder"] {
        let (answer, _) = version(&spec(small(kind), objective.clone(), "random"), &cycles());
        // After the first event everything is certain, and the profile knows the first: without it the perplexity of
        // nine events would be the ninth root of fifteen, 1.35.
        let perplexity = test_metric(&answer, "reconstruct.perplexity");
        assert!(perplexity < 1.25, "{kind}: {perplexity}");
    }
}

#[test]
fn the_next_few_events_are_foreseen() {
    for (kind, split) in [("transformer", "random"), ("gru", "temporal"), ("encoder_decoder", "random")] {
        let objective = json!({"kind": "next_k", "field": "item", "k": 3, "within": 2.0});
        let (answer, _) = version(&spec(small(kind), objective, split), &cycles());
        // Two are within two units of time, though three are asked for.
        let recall = test_metric(&answer, "next_k.recall@3");
        assert!(recall > 0.9, "{kind}: {recall}");
        if kind == "encoder_decoder" {
            // The history says which item is next; of an entity's five none is likelier without it.
            let perplexity = test_metric(&answer, "next_k.perplexity");
            assert!(perplexity < 3.0, "{perplexity}");
        }
    }
}

/// Probabilities of hidden units, learned by one machine after the other before anything else is.
#[test]
fn machines_learn_before_the_objective_does() {
    let objective = json!({"kind": "reconstruct", "field": "item"});
    let (answer, scored) = version(&spec(small("dbn"), objective, "random"), &cycles());
    for layer in 1..=2 {
        let name = format!("layer_{layer}.error");
        let errors: Vec<f64> = answer.metrics.iter().filter(|m| m.metric == name).map(|m| m.value).collect();
        assert_eq!(errors.len(), 10);
        assert!(errors[9] < errors[0], "{errors:?}");
    }
    assert!(vectors(&scored.profiles, 4).iter().flatten().all(|p| (0.0..=1.0).contains(p)));
}

/// Item 0 comes every fifth event of one kind of entities: those who know the order know when, a bag knows of whom.
#[test]
fn they_learn_labels_too() {
    for (kind, least) in [("autoencoder", 0.95), ("encoder_decoder", 0.95), ("dbn", 0.7)] {
        let objective = json!({"kind": "classify", "label": "again", "min_examples": 5});
        let (answer, _) = version(&spec(small(kind), objective, "temporal"), &cycles());
        let area = test_metric(&answer, "again.auc");
        assert!(area > least, "{kind}: {area}");
    }
}
