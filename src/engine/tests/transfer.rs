//! Training that begins with another version's weights, and that goes on with what is new.

use crate::done;
use crate::driver::{Answer, job};
use crate::specs::{again, next, short};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use persona_core::artifact::Artifact;
use persona_core::events::Values;
use persona_core::protocol::{Ask, Job, Role, Task};
use persona_core::source::{
    Clock, Field, FieldKind, KeyType, Label, LabelKind, LabelOrigin, SourceSchema, Upcoming, ValueType,
};
use persona_core::spec::ModelSpec;
use persona_core::{Error, ErrorKind};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

const ENTITIES: i64 = 90;

fn source() -> SourceSchema {
    let item = Field::new("item", FieldKind::Category, ValueType::Integer);
    let price = Field::new("price", FieldKind::Number, ValueType::Number);
    let upcoming = Upcoming { event: [("item".to_string(), "0".to_string())].into(), absent: false, within: 2.0 };
    let again = Label { name: "again".into(), kind: LabelKind::Class, origin: LabelOrigin::Events(upcoming) };
    SourceSchema { labels: vec![again], ..SourceSchema::new(KeyType::Integer, Clock::Number, vec![item, price]) }
}

/// Entities of each of three kinds go through five items of their own; from the time 20 on the kind 0 has the item 100 in
/// the place of 1.
fn events(until: i64) -> RecordBatch {
    let rows = || (0..ENTITIES).flat_map(|entity| (0..until).map(move |event| (entity, event)));
    let item = |(entity, event): (i64, i64)| match entity % 3 * 5 + (entity / 3 + event) % 5 {
        1 if event >= 20 => 100,
        item => item,
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows().map(|(entity, _)| entity))),
        Arc::new(Float64Array::from_iter_values(rows().map(|(_, event)| event as f64))),
        Arc::new(Int64Array::from_iter_values(rows().map(item))),
        Arc::new(Float64Array::from_iter_values(rows().map(|row| item(row) as f64))),
    ];
    RecordBatch::try_new(source().arrow(), columns).unwrap()
}

fn spec(encoder: Value, objective: Value, training: Value) -> ModelSpec {
    short(&source(), 4, encoder, objective, training)
}

/// So small a rate moves no weight of single precision.
fn still() -> Value {
    json!({"init_from": "first@1", "learning_rate": 1e-30, "epochs": 1})
}

fn engine() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_persona-engine"))
}

fn run(job: &Job, stored: &[(Role, &[u8])], events: &RecordBatch) -> Answer {
    crate::driver::run_about(engine(), job, stored, std::slice::from_ref(events), |_| {})
}

fn evaluated(artifact: &[u8], events: &RecordBatch) -> Answer {
    let job = job(Task::Evaluate, &source(), None, 1);
    done(crate::driver::run(engine(), &job, artifact, std::slice::from_ref(events), |_| {}))
}

fn train(spec: &ModelSpec, start: &[u8], events: &RecordBatch) -> Answer {
    done(run(&job(Task::Train, &source(), Some(spec), 1), &[(Role::Start, start)], events))
}

fn notes(answer: &Answer) -> String {
    answer.result.clone().unwrap().unwrap().notes.join("\n")
}

fn refused(spec: &ModelSpec, start: &[u8]) -> Error {
    let answer = run(&job(Task::Train, &source(), Some(spec), 1), &[(Role::Start, start)], &events(20));
    answer.result.unwrap().unwrap_err()
}

fn weight(answer: &Answer, name: &str) -> Vec<f32> {
    Artifact::from_bytes(&answer.artifact).unwrap().get_f32(&format!("weights.{name}")).unwrap()
}

fn weights(answer: &Answer) -> Vec<String> {
    let artifact = Artifact::from_bytes(&answer.artifact).unwrap();
    artifact.tensors.keys().filter_map(|name| name.strip_prefix("weights.").map(str::to_string)).collect()
}

fn items(answer: &Answer) -> Vec<i64> {
    match Artifact::from_bytes(&answer.artifact).unwrap().get_values("field.0.values").unwrap() {
        Values::Integer(items) => items,
        Values::Text(_) => panic!("items are integers"),
    }
}

fn networks() -> [(Value, Value); 6] {
    let plain = |kind: &str| json!({"kind": kind, "dim": 16, "length": 8, "dropout": 0.0});
    [
        (plain("transformer"), next()),
        (plain("gru"), json!([next(), again()])),
        (plain("cnn"), again()),
        (json!({"kind": "dnn", "dim": 16, "members": 2, "layers": 1, "recent": [4]}), again()),
        (json!({"kind": "dbn", "dim": 8, "width": 16}), json!({"kind": "reconstruct", "field": "item"})),
        (
            json!({"kind": "encoder_decoder", "dim": 16, "length": 8}),
            json!({"kind": "next_k", "field": "item", "k": 2}),
        ),
    ]
}

#[test]
fn what_begins_with_a_version_says_the_same_before_its_weights_move() {
    for (encoder, objective) in networks() {
        let events = events(20);
        let first = train(&spec(encoder.clone(), objective.clone(), json!({})), &[], &events);
        let second = train(&spec(encoder.clone(), objective, still()), &first.artifact, &events);
        for name in weights(&first) {
            assert_eq!(weight(&second, &name), weight(&first, &name), "{encoder} {name}");
        }
        assert!(notes(&second).contains("\"first@1\", 100.0 % of their numbers."), "{encoder}: {}", notes(&second));
        assert!(second.metrics.iter().any(|metric| metric.epoch == Some(0)), "{encoder}");
        let score = |answer: &Answer| {
            done(run(&job(Task::Score, &source(), None, 1), &[(Role::Subject, &answer.artifact)], &events)).profiles
        };
        assert_eq!(score(&second), score(&first), "{encoder}");
    }
}

#[test]
fn frozen_weights_do_not_change_and_the_others_do() {
    let mut better = 0;
    for (encoder, objective) in networks() {
        let events = events(20);
        // So little was learned that every epoch is better.
        let little = json!({"epochs": 1, "learning_rate": 0.001});
        let first = train(&spec(encoder.clone(), objective.clone(), little), &[], &events);
        for frozen in ["embeddings", "encoder"] {
            let training = json!({"init_from": "first@1", "freeze": [frozen], "split": "random"});
            let second = train(&spec(encoder.clone(), objective.clone(), training), &first.artifact, &events);
            let moved: Vec<String> =
                weights(&first).into_iter().filter(|name| weight(&second, name) != weight(&first, name)).collect();
            let is_frozen = |name: &String| persona_core::spec::freezes(frozen, name);
            assert!(!moved.iter().any(is_frozen), "{encoder} without {frozen}: {moved:?}");
            // Where nothing was better, what training began with is kept.
            let kept = second.result.clone().unwrap().unwrap().best_epoch == Some(0);
            assert_eq!(moved.is_empty(), kept, "{encoder} without {frozen}");
            better += usize::from(!kept);
        }
    }
    assert!(better >= 8, "{better} of 12");
}

#[test]
fn rows_move_by_value_and_a_new_value_begins_fresh() {
    let gru = json!({"kind": "gru", "dim": 8, "length": 8});
    let first = train(&spec(gru.clone(), next(), json!({})), &[], &events(20));
    // The new item is among the most frequent, so the codes of others are not what they were.
    let second = train(&spec(gru, next(), still()), &first.artifact, &events(45));
    assert_ne!(items(&first), items(&second)[..items(&first).len()]);
    let row = |answer: &Answer, item: i64| {
        let place = items(answer).iter().position(|&known| known == item).unwrap() + 2;
        weight(answer, "items.weight")[place * 8..][..8].to_vec()
    };
    for item in items(&first) {
        assert_eq!(row(&second, item), row(&first, item), "{item}");
    }
    assert!(items(&first).into_iter().all(|item| row(&first, item) != row(&second, 100)));
    assert!(notes(&second).contains("what begins fresh: 1 values of \"item\""), "{}", notes(&second));
}

#[test]
fn a_model_of_labels_begins_with_what_one_of_events_has_learned_of_items() {
    let plain = |kind: &str| json!({"kind": kind, "dim": 16, "length": 8});
    let first = train(&spec(plain("gru"), next(), json!({})), &[], &events(20));
    let second = train(&spec(plain("gru"), again(), still()), &first.artifact, &events(20));
    assert_eq!(weight(&second, "inputs.item.weight"), weight(&first, "items.weight"));
    assert_eq!(weight(&second, "layer.0.state.weight"), weight(&first, "layer.0.state.weight"));
    assert!(notes(&second).contains("head.again.bias"), "{}", notes(&second));
    // Another family takes what fields mean, and nothing else.
    let third = train(&spec(plain("cnn"), again(), still()), &first.artifact, &events(20));
    assert_eq!(weight(&third, "inputs.item.weight"), weight(&first, "items.weight"));
    assert_ne!(weight(&third, "norm.weight").len(), 0);
    let wide = json!({"kind": "gru", "dim": 32, "length": 8});
    let error = refused(&spec(wide, next(), still()), &first.artifact);
    assert_eq!(
        (error.kind, error.message.as_str()),
        (ErrorKind::InvalidParameter, "no weight of \"first@1\" fits the model")
    );
    assert!(
        error.hint.is_some() && error.detail.unwrap().contains("\"gru\" of 16 dimensions, the model \"gru\" of 32")
    );
    let frozen = json!({"init_from": "first@1", "freeze": ["block.0."]});
    let error = refused(&spec(plain("gru"), next(), frozen), &first.artifact);
    assert_eq!(error.message, "training.freeze \"block.0.\" is the name of no weight");
}

fn incrementally(spec: &ModelSpec) -> Job {
    let ask = Ask { incremental: true, ..Ask::default() };
    Job { ask, ..job(Task::Train, &source(), Some(spec), 1) }
}

#[test]
fn incremental_training_learns_what_is_new_and_appends_its_values() {
    let gru = json!({"kind": "gru", "dim": 16, "length": 8, "dropout": 0.0});
    let first = train(&spec(gru.clone(), next(), json!({"epochs": 15})), &[], &events(20));
    let more = spec(gru, next(), json!({"epochs": 15, "init_from": "first@1"}));
    let second = done(run(&incrementally(&more), &[(Role::Start, &first.artifact)], &events(40)));
    let again = done(run(&incrementally(&more), &[(Role::Start, &first.artifact)], &events(40)));
    assert!(second.artifact == again.artifact);
    assert_eq!(items(&second)[..15], items(&first));
    assert_eq!(items(&second)[15..], [100]);
    // The first validates from the time 12 on; of the 28 times since then the last two fifths are held out.
    let learned = 90 * 16;
    assert!(notes(&second).contains(&format!("{learned} of 3600 events were learned")), "{}", notes(&second));
    let before = second.metrics.iter().find(|m| m.epoch == Some(0) && m.metric == "hr@1").unwrap().value;
    let after =
        second.metrics.iter().find(|m| m.epoch.is_none() && m.split == "test" && m.metric == "hr@1").unwrap().value;
    assert!(before < 0.95 && after > 0.97, "{before} and {after}");
    let judged = evaluated(&second.artifact, &events(40));
    let whole: Vec<_> = second.metrics.iter().filter(|metric| metric.epoch.is_none()).cloned().collect();
    assert_eq!(judged.metrics, whole);
}

#[test]
fn labels_are_learned_incrementally_too() {
    for (encoder, objective) in networks() {
        let first = train(&spec(encoder.clone(), objective.clone(), json!({})), &[], &events(20));
        let more = spec(encoder.clone(), objective, json!({"init_from": "first@1"}));
        let second = done(run(&incrementally(&more), &[(Role::Start, &first.artifact)], &events(40)));
        assert!(notes(&second).contains("events were learned"), "{encoder}: {}", notes(&second));
    }
}

#[test]
fn without_news_incremental_training_says_so() {
    let gru = json!({"kind": "gru", "dim": 8, "length": 8});
    let first = train(&spec(gru.clone(), next(), json!({})), &[], &events(20));
    let more = spec(gru, next(), json!({"init_from": "first@1"}));
    let error = run(&incrementally(&more), &[(Role::Start, &first.artifact)], &events(20)).result.unwrap().unwrap_err();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (ErrorKind::InsufficientData, "nothing is new since \"first@1\" was trained")
    );
    assert!(error.hint.unwrap().contains("CALL persona.train('first')"));
}
