//! A generator learns a grammar, is judged, stored, scored, and draws events of its source's form.

use crate::driver::{Answer, job};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use persona_core::protocol::{Metric, Synthesis, Task};
use persona_core::source::{Clock, Field, FieldKind, KeyType, SourceSchema, ValueType};
use persona_core::spec::ModelSpec;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

const ENTITIES: i64 = 240;

fn source() -> SourceSchema {
    let fields = vec![
        Field::new("item", FieldKind::Category, ValueType::Text),
        Field::new("price", FieldKind::Number, ValueType::Number),
    ];
    SourceSchema::new(KeyType::Integer, Clock::Timestamp, fields)
}

const HOUR: i64 = 3_600_000_000;

/// Everybody walks around a ring of eight items, from anywhere, an hour from each to the next and three after the last of
/// the ring; an item's price is its number. Walks have four to nine events.
fn walks() -> RecordBatch {
    let length = |entity: i64| 4 + entity * 7 % 6;
    let rows = || (0..ENTITIES).flat_map(move |entity| (0..length(entity)).map(move |event| (entity, event)));
    let item = |(entity, event): (i64, i64)| (entity * 5 + event) % 8;
    let laps = |(entity, event): (i64, i64)| (entity * 5 % 8 + event) / 8;
    let at = move |row: (i64, i64)| (row.0 * 3 + row.1 + 2 * laps(row)) * HOUR;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows().map(|row| row.0))),
        Arc::new(Int64Array::from_iter_values(rows().map(at))),
        Arc::new(StringArray::from_iter_values(rows().map(|row| format!("item {}", item(row))))),
        Arc::new(Float64Array::from_iter_values(rows().map(|row| item(row) as f64))),
    ];
    RecordBatch::try_new(source().arrow(), columns).unwrap()
}

fn spec(split: &str) -> ModelSpec {
    let spec = json!({
        "encoder": {"kind": "gan", "dim": 16, "width": 24, "noise": 4, "length": 12, "pretrain": 15, "dropout": 0.0},
        "objective": {"kind": "adversarial", "field": "item"},
        "training": {"split": split, "epochs": 12, "patience": 15, "batch_events": 256, "learning_rate": 0.01, "warmup": 5,
                     "valid": 0.2, "test": 0.2, "device": "cpu"},
    });
    ModelSpec::parse(&spec, &source()).unwrap()
}

fn run(task: Task, spec: &ModelSpec, artifact: &[u8], synthesis: Option<Synthesis>) -> Answer {
    let events = if task == Task::Synthesize { walks().slice(0, 0) } else { walks() };
    let ask = persona_core::protocol::Ask { synthesis, ..Default::default() };
    let job = persona_core::protocol::Job { ask, ..job(task, &source(), Some(spec), 1) };
    let answer = crate::driver::run(Path::new(env!("CARGO_BIN_EXE_persona-engine")), &job, artifact, &[events], |_| {});
    assert!(matches!(answer.result, Some(Ok(_))), "{:?}", answer.result);
    answer
}

fn of_version(answer: &Answer) -> Vec<Metric> {
    answer.metrics.iter().filter(|metric| metric.epoch.is_none()).cloned().collect()
}

fn figure(metrics: &[Metric], split: &str, name: &str) -> f64 {
    let found = metrics.iter().find(|m| m.split == split && m.metric == name);
    found.unwrap_or_else(|| panic!("no {name} in {metrics:?}")).value
}

struct Walk {
    item: i64,
    price: f64,
    at: i64,
}

/// Of each entity, in order.
fn drawn(answer: &Answer) -> Vec<Vec<Walk>> {
    let mut walks: Vec<Vec<Walk>> = Vec::new();
    for batch in &answer.synthetic {
        for row in 0..batch.num_rows() {
            let entity = batch.column(0).as_primitive::<Int64Type>().value(row) as usize;
            walks.resize_with(entity.max(walks.len()), Vec::new);
            walks[entity - 1].push(Walk {
                item: batch.column(2).as_string::<i32>().value(row)[5..].parse().unwrap(),
                price: batch.column(3).as_primitive::<Float64Type>().value(row),
                at: batch.column(1).as_primitive::<Int64Type>().value(row),
            });
        }
    }
    walks
}

#[test]
fn a_grammar_is_learned_and_drawn() {
    let spec = spec("random");
    let answer = run(Task::Train, &spec, &[], None);
    assert!(run(Task::Train, &spec, &[], None).artifact == answer.artifact);
    let metrics = of_version(&answer);
    assert_eq!(of_version(&run(Task::Evaluate, &spec, &answer.artifact, None)), metrics);
    // Of eight items each has one that follows, so by chance seven pairs of eight are wrong.
    for (name, most) in [("js", 0.15), ("js.item", 0.1), ("js.bigram", 0.2), ("js.gap", 0.1), ("js.price", 0.1)] {
        let value = figure(&metrics, "test", name);
        assert!(value < most, "{name}: {value}");
    }
    assert!((0.0..=1.0).contains(&figure(&metrics, "test", "auc")));
    assert!(figure(&metrics, "test", "js.bigram.real") < 0.1);
    // The discriminator has seen what likelihood alone draws before the two compete.
    let compete: Vec<u32> = answer.metrics.iter().filter(|m| m.metric == "auc").filter_map(|m| m.epoch).collect();
    assert_eq!(compete.first(), Some(&16));

    let synthesis = |entities, seed| Some(Synthesis { entities, seed });
    let synthetic = run(Task::Synthesize, &spec, &answer.artifact, synthesis(600, 7));
    assert_eq!(run(Task::Synthesize, &spec, &answer.artifact, synthesis(600, 7)).synthetic, synthetic.synthetic);
    assert_ne!(run(Task::Synthesize, &spec, &answer.artifact, synthesis(600, 8)).synthetic, synthetic.synthetic);
    let walks = drawn(&synthetic);
    assert!(walks.len() == 600 && walks.iter().all(|walk| (1..=12).contains(&walk.len())));
    let pairs: Vec<(&Walk, &Walk)> = walks.iter().flat_map(|walk| walk.iter().zip(&walk[1..])).collect();
    let share = |right: &dyn Fn(&(&Walk, &Walk)) -> bool| {
        pairs.iter().filter(|pair| right(pair)).count() as f64 / pairs.len() as f64
    };
    let next = share(&|(a, b)| b.item == (a.item + 1) % 8);
    assert!(next > 0.85, "{next}");
    let pace = share(&|(a, b)| b.at - a.at == if b.item == 0 { 3 * HOUR } else { HOUR });
    assert!(pace > 0.8, "{pace}");
    let priced = share(&|(a, _)| a.price == a.item as f64);
    assert!(priced > 0.85, "{priced}");
    let outcome = synthetic.result.unwrap().unwrap();
    assert_eq!((outcome.entities, outcome.events), (600, walks.iter().map(Vec::len).sum::<usize>() as u64));
}

/// Profiles are the discriminator's states, and there are no vectors of items.
#[test]
fn profiles_are_the_discriminators_states() {
    let spec = spec("temporal");
    let answer = run(Task::Train, &spec, &[], None);
    let metrics = of_version(&answer);
    assert!(figure(&metrics, "test", "js.bigram") < 0.5);
    // A period cuts sequences, so lengths are not compared.
    assert!(!metrics.iter().any(|metric| metric.metric == "js.length"));
    let scored = run(Task::Score, &spec, &answer.artifact, None);
    assert_eq!(run(Task::Score, &spec, &answer.artifact, None).profiles, scored.profiles);
    assert_eq!(scored.profiles.iter().map(RecordBatch::num_rows).sum::<usize>(), ENTITIES as usize);
    assert!(scored.items.is_empty());
}
