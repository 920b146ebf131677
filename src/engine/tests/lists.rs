//! Every entity's best items, from families with and without vectors.

use crate::driver::{Answer, job};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type, UInt32Type};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use persona_core::ErrorKind;
use persona_core::protocol::{Ask, Job, Role, Task};
use persona_core::source::{Clock, Field, FieldKind, KeyType, SourceSchema, ValueType};
use persona_core::spec::ModelSpec;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

fn source() -> SourceSchema {
    let item = Field::new("item", FieldKind::Category, ValueType::Integer);
    SourceSchema::new(KeyType::Integer, Clock::Number, vec![item])
}

const ENTITIES: i64 = 90;
const ITEMS: i64 = 30;

/// Everybody goes around a ring from somewhere, and has seen twelve of its items.
fn item(entity: i64, event: i64) -> i64 {
    100 + (entity * 7 + event) % ITEMS
}

fn events() -> RecordBatch {
    let rows = || (0..ENTITIES).flat_map(|entity| (0..12).map(move |event| (entity, event)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows().map(|(entity, _)| entity))),
        Arc::new(Float64Array::from_iter_values(rows().map(|(_, event)| event as f64))),
        Arc::new(Int64Array::from_iter_values(rows().map(|(entity, event)| item(entity, event)))),
    ];
    RecordBatch::try_new(source().arrow(), columns).unwrap()
}

fn spec(encoder: Value) -> ModelSpec {
    let spec = json!({
        "encoder": encoder,
        "objective": {"kind": "next_event", "field": "item"},
        "training": {"split": "leave_one_out", "epochs": 5, "device": "cpu"},
        "evaluation": {"seen": "remove"},
    });
    ModelSpec::parse(&spec, &source()).unwrap()
}

fn run(job: &Job, artifacts: &[&[u8]]) -> Answer {
    let role = if job.task == Task::Train { Role::Mixed } else { Role::Subject };
    let stored: Vec<(Role, &[u8])> = artifacts.iter().map(|bytes| (role, *bytes)).collect();
    crate::driver::run_about(Path::new(env!("CARGO_BIN_EXE_persona-engine")), job, &stored, &[events()], |_| {})
}

fn train(spec: &ModelSpec, parts: &[&[u8]]) -> Vec<u8> {
    let answer = run(&job(Task::Train, &source(), Some(spec), 2), parts);
    assert!(matches!(answer.result, Some(Ok(_))), "{:?}", answer.result);
    answer.artifact
}

fn score(spec: &ModelSpec, artifact: &[u8], recommendations: usize, threads: usize) -> Answer {
    let ask = Ask { recommendations, ..Ask::default() };
    let job = Job { ask, ..job(Task::Score, &source(), Some(spec), threads) };
    run(&job, &[artifact])
}

/// Of each entity.
fn lists(answer: &Answer) -> Vec<Vec<(i64, f32)>> {
    let of_batch = |batch: &RecordBatch| {
        let column = |name| batch.column_by_name(name).unwrap().as_list::<i32>().clone();
        let (items, scores) = (column("items"), column("scores"));
        let list = |row: usize| {
            let (items, scores) = (items.value(row), scores.value(row));
            let items = items.as_dictionary::<UInt32Type>().downcast_dict::<Int64Array>().unwrap();
            let scores = scores.as_primitive::<Float32Type>().values().to_vec();
            items.into_iter().flatten().zip(scores).collect::<Vec<_>>()
        };
        (0..batch.num_rows()).map(list).collect::<Vec<_>>()
    };
    answer.profiles.iter().flat_map(of_batch).collect()
}

/// Ten of the best, and ten that were not seen, in the order of their scores; the next of the ring before all.
fn check(name: &str, answer: &Answer) {
    let lists = lists(answer);
    assert_eq!(lists.len(), ENTITIES as usize, "{:?}", answer.result);
    for (entity, list) in (0..).zip(lists) {
        let seen: Vec<i64> = (0..12).map(|event| item(entity, event)).collect();
        let unseen: Vec<i64> = list.iter().map(|entry| entry.0).filter(|item| !seen.contains(item)).collect();
        assert!(unseen.len() == 10 || list.len() == 10, "{name}: {list:?}");
        assert!(list.is_sorted_by(|a, b| a.1 >= b.1), "{name}: {list:?}");
        let mut distinct: Vec<i64> = list.iter().map(|entry| entry.0).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), list.len(), "{name}");
        if name != "popularity" {
            assert_eq!(unseen[0], item(entity, 12), "{name}: {list:?}");
        }
    }
}

#[test]
fn families_without_vectors_have_lists() {
    let kinds = [json!({"kind": "popularity"}), json!({"kind": "transitions"}), json!({"kind": "knn"})];
    let mut parts = Vec::new();
    for encoder in kinds {
        let spec = spec(encoder);
        let artifact = train(&spec, &[]);
        let answer = score(&spec, &artifact, 10, 1);
        assert!(answer.items.is_empty() && answer.profiles[0].column_by_name("embedding").is_none());
        assert_eq!(score(&spec, &artifact, 10, 3).profiles, answer.profiles);
        check(spec.encoder.kind(), &answer);
        parts.push(artifact);
    }
    let spec = spec(json!({"kind": "blend", "models": ["popularity", "transitions", "knn"]}));
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    check("blend", &score(&spec, &train(&spec, &parts), 10, 2));
}

/// Vectors in f32 give what the lists say.
#[test]
fn factors_have_both() {
    let spec = spec(json!({"kind": "mf", "loss": "als", "dim": 16}));
    let artifact = train(&spec, &[]);
    let (both, alone) = (score(&spec, &artifact, 10, 2), score(&spec, &artifact, 0, 2));
    assert_eq!(both.items, alone.items);
    assert_eq!(both.profiles[0].column_by_name("embedding"), alone.profiles[0].column_by_name("embedding"));
    let ask = Ask { recommendations: 10, lists_alone: true, ..Ask::default() };
    let without = run(&Job { ask, ..job(Task::Score, &source(), Some(&spec), 2) }, &[&artifact]);
    assert_eq!(lists(&without), lists(&both));
    assert!(without.items.is_empty() && without.profiles[0].column_by_name("embedding").is_none());
    let names = both.items[0].column(0).as_primitive::<Int64Type>();
    let halves = |batch: &RecordBatch, row: usize| -> Vec<f32> {
        let bytes = batch.column_by_name("embedding").unwrap().as_fixed_size_binary().value(row).to_vec();
        bytes.chunks(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
    };
    for (entity, list) in lists(&both).into_iter().enumerate() {
        let profile = halves(&both.profiles[0], entity);
        for (item, score) in list {
            let place = (0..names.len()).find(|&i| names.value(i) == item).unwrap();
            let product: f32 = profile.iter().zip(halves(&both.items[0], place)).map(|(a, b)| a * b).sum();
            assert!((product - score).abs() < 0.01, "{product} {score}");
        }
    }
}

#[test]
fn with_neither_vectors_nor_lists_there_is_nothing_to_tell() {
    let spec = spec(json!({"kind": "transitions"}));
    let error = score(&spec, &train(&spec, &[]), 0, 1).result.unwrap().unwrap_err();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (ErrorKind::Unsupported, "encoder \"transitions\" has no vectors")
    );
}
