//! Vectors and times as fields: labels that depend on nothing else are learned from them.

use crate::driver::{Answer, job};
use arrow_array::{ArrayRef, FixedSizeBinaryArray, Int64Array, RecordBatch};
use persona_core::protocol::{Holds, SideTable, Task};
use persona_core::source::{
    Attributes, Clock, Field, FieldKind, KeyType, Label, LabelKind, LabelOrigin, SourceSchema, ValueType,
};
use persona_core::spec::ModelSpec;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

const ENTITIES: i64 = 200;
const EVENTS: i64 = 6;
const DAY: i64 = 86_400_000_000;
const WIDTH: usize = 24;

/// Events of items that nobody else has; a time beside that of the event; and what the items look like.
fn source() -> SourceSchema {
    // Each is there once, so none has an embedding that could know its entity by heart.
    let item = Field { min_count: 2, ..Field::new("item", FieldKind::Category, ValueType::Integer) };
    let due = Field::new("due", FieldKind::Time, ValueType::Integer);
    let look = Field::new("look", FieldKind::Vector, ValueType::Vector(WIDTH as u16));
    let label = |name: &str| {
        let origin = LabelOrigin::Table { value: ValueType::Integer, timed: false };
        Label { name: name.into(), kind: LabelKind::Class, origin }
    };
    SourceSchema {
        attributes: vec![Attributes { on: Some("item".into()), key: KeyType::Integer, fields: vec![look] }],
        labels: vec![label("bright"), label("late")],
        ..SourceSchema::new(KeyType::Integer, Clock::Timestamp, vec![item, due])
    }
}

fn integers(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// A third of the times are missing; of the others every second entity's are past.
fn events() -> RecordBatch {
    let rows = || (0..ENTITIES).flat_map(|entity| (0..EVENTS).map(move |event| (entity, event)));
    let at = |event: i64| 19_000 * DAY + event * 7 * DAY;
    let due = rows().map(|(entity, event)| {
        let days = 1 + (entity * 5 + event * 3) % 300;
        ((entity + event) % 3 > 0).then(|| at(event) + if entity % 2 == 0 { days } else { -days } * DAY)
    });
    let columns: Vec<ArrayRef> = vec![
        integers(rows().map(|(entity, _)| entity)),
        integers(rows().map(|(_, event)| at(event))),
        integers(rows().map(|(entity, event)| entity * EVENTS + event)),
        Arc::new(Int64Array::from_iter(due)),
    ];
    RecordBatch::try_new(source().arrow(), columns).unwrap()
}

/// Vectors of noise, of which one number is larger where the items are of every third or fourth entity. Every ninth is missing.
fn looks() -> (SideTable, RecordBatch) {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut look = |item: i64| -> Vec<u8> {
        let bright = bright(item / EVENTS) == 1;
        let number = |i| rng.random_range(-1.0..1.0f32) * 10.0 + if bright && i == 7 { 20.0 } else { 0.0 };
        (0..WIDTH).map(number).flat_map(f32::to_le_bytes).collect()
    };
    let looks = (0..ENTITIES * EVENTS).map(|item| (item % 9 > 0).then(|| look(item)));
    let looks = FixedSizeBinaryArray::try_from_sparse_iter_with_size(looks, 4 * WIDTH as i32).unwrap();
    let schema = SourceSchema::new(KeyType::Integer, Clock::Number, source().attributes[0].fields.clone());
    let columns: Vec<ArrayRef> = vec![
        integers(0..ENTITIES * EVENTS),
        Arc::new(arrow_array::Float64Array::from(vec![0.0; (ENTITIES * EVENTS) as usize])),
        Arc::new(looks),
    ];
    let rows = RecordBatch::try_new(schema.arrow(), columns).unwrap();
    (SideTable { holds: Holds::Attributes(0), schema }, rows)
}

fn bright(entity: i64) -> i64 {
    i64::from(entity % 7 < 3)
}

fn labels(name: &str) -> (SideTable, RecordBatch) {
    let schema = source().label_table(source().label(name).unwrap()).unwrap();
    let truth = |entity: i64| if name == "bright" { bright(entity) } else { entity % 2 };
    let columns: Vec<ArrayRef> = vec![
        integers(0..ENTITIES),
        Arc::new(arrow_array::Float64Array::from(vec![0.0; ENTITIES as usize])),
        integers((0..ENTITIES).map(truth)),
    ];
    let rows = RecordBatch::try_new(schema.arrow(), columns).unwrap();
    (SideTable { holds: Holds::Label(name.into()), schema }, rows)
}

fn spec(encoder: &Value, label: &str) -> ModelSpec {
    let spec = json!({
        "encoder": encoder,
        "objective": {"kind": "classify", "label": label, "min_examples": 40},
        "training": {"split": "random", "epochs": 40, "patience": 40, "batch_events": 256, "learning_rate": 0.01,
                     "valid": 0.2, "test": 0.3, "warmup": 5, "device": "cpu"},
    });
    ModelSpec::parse(&spec, &source()).unwrap()
}

fn run(task: Task, spec: &ModelSpec, label: &str, artifact: &[u8]) -> Answer {
    let tables = match task {
        Task::Score => vec![looks()],
        _ => vec![looks(), labels(label)],
    };
    let mut job = job(task, &source(), Some(spec), 1);
    job.tables = tables.iter().map(|(table, _)| table.clone()).collect();
    let batches: Vec<RecordBatch> = std::iter::once(events()).chain(tables.into_iter().map(|(_, rows)| rows)).collect();
    crate::driver::run(Path::new(env!("CARGO_BIN_EXE_persona-engine")), &job, artifact, &batches, |_| {})
}

fn families() -> [Value; 3] {
    [
        json!({"kind": "transformer", "dim": 16, "length": 8, "dropout": 0.1}),
        json!({"kind": "gru", "dim": 16, "length": 8, "dropout": 0.1}),
        json!({"kind": "dnn", "dim": 16, "members": 2, "layers": 1, "dropout": 0.1}),
    ]
}

#[test]
fn labels_are_learned_from_what_only_vectors_and_times_tell() {
    for encoder in families() {
        for label in ["bright", "late"] {
            let spec = spec(&encoder, label);
            let answer = run(Task::Train, &spec, label, &[]);
            assert!(matches!(answer.result, Some(Ok(_))), "{:?}", answer.result);
            let last: Vec<_> = answer.metrics.iter().filter(|metric| metric.epoch.is_none()).cloned().collect();
            let auc = format!("{label}.auc");
            let auc = last.iter().find(|m| m.split == "test" && m.metric == auc).map(|m| m.value);
            assert!(auc.is_some_and(|auc| auc > 0.9), "{encoder} {label}: {auc:?}");
            // A stored version sees what training saw.
            let again = run(Task::Evaluate, &spec, label, &answer.artifact);
            assert_eq!(again.metrics, last, "{encoder} {label}");
            let scored = run(Task::Score, &spec, label, &answer.artifact);
            assert_eq!(scored.profiles.iter().map(RecordBatch::num_rows).sum::<usize>() as i64, ENTITIES);
        }
    }
}

/// A family that reads categories alone takes no harm.
#[test]
fn a_belief_network_leaves_vectors_out() {
    let encoder = json!({"kind": "dbn", "dim": 16, "width": 16, "layers": 2, "pretraining_epochs": 1});
    let spec = spec(&encoder, "late");
    let answer = run(Task::Train, &spec, "late", &[]);
    assert!(matches!(answer.result, Some(Ok(_))), "{:?}", answer.result);
}
