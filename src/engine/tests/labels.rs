//! Labels: classes and numbers of entities, learned, judged and scored.

use crate::driver::{Answer, job};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int64Type};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use persona_core::ErrorKind;
use persona_core::protocol::{Holds, Job, Metric, SideTable, Task};
use persona_core::source::{
    Clock, Field, FieldKind, KeyType, Label, LabelKind, LabelOrigin, SourceSchema, Upcoming, ValueType,
};
use persona_core::spec::ModelSpec;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

const ENTITIES: i64 = 150;
const EVENTS: i64 = 10;
const TIERS: [&str; 3] = ["bronze", "gold", "silver"];

fn source() -> SourceSchema {
    let item = Field::new("item", FieldKind::Category, ValueType::Integer);
    let table =
        |name: &str, kind, value| Label { name: name.into(), kind, origin: LabelOrigin::Table { value, timed: false } };
    let upcoming = Upcoming { event: [("item".to_string(), "0".to_string())].into(), absent: false, within: 2.0 };
    SourceSchema {
        labels: vec![
            table("tier", LabelKind::Class, ValueType::Text),
            table("spend", LabelKind::Number, ValueType::Number),
            Label { name: "again".into(), kind: LabelKind::Class, origin: LabelOrigin::Events(upcoming) },
        ],
        ..SourceSchema::new(KeyType::Integer, Clock::Number, vec![item])
    }
}

/// Entities of each tier have five items of their own, and go through them in order.
fn events() -> RecordBatch {
    let rows = || (0..ENTITIES).flat_map(|entity| (0..EVENTS).map(move |event| (entity, event)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows().map(|(entity, _)| entity))),
        Arc::new(Float64Array::from_iter_values(rows().map(|(_, event)| event as f64))),
        Arc::new(Int64Array::from_iter_values(rows().map(|(entity, event)| entity % 3 * 5 + (entity / 3 + event) % 5))),
    ];
    RecordBatch::try_new(source().arrow(), columns).unwrap()
}

fn table(label: &str) -> (SideTable, RecordBatch) {
    let source = source();
    let schema = source.label_table(source.label(label).unwrap()).unwrap();
    let column: ArrayRef = match label {
        "tier" => Arc::new((0..ENTITIES).map(|entity| Some(TIERS[entity as usize % 3])).collect::<StringArray>()),
        _ => Arc::new(Float64Array::from_iter_values((0..ENTITIES).map(|entity| (entity % 3 * 100) as f64))),
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..ENTITIES)),
        Arc::new(Float64Array::from_iter_values((0..ENTITIES).map(|_| 0.0))),
        column,
    ];
    let rows = RecordBatch::try_new(schema.arrow(), columns).unwrap();
    (SideTable { holds: Holds::Label(label.into()), schema }, rows)
}

fn spec(encoder: &Value, objective: Value, split: &str) -> ModelSpec {
    let spec = json!({
        "encoder": encoder,
        "objective": objective,
        "training": {"split": split, "folds": 3, "epochs": 25, "patience": 25, "batch_events": 256, "learning_rate": 0.01,
                     "warmup": 5, "valid": 0.2, "test": 0.2, "device": "cpu"},
    });
    ModelSpec::parse(&spec, &source()).unwrap()
}

fn families() -> [Value; 3] {
    [
        json!({"kind": "transformer", "dim": 16, "length": 8, "dropout": 0.1}),
        json!({"kind": "gru", "dim": 16, "length": 8, "dropout": 0.1}),
        json!({"kind": "dnn", "dim": 16, "members": 2, "layers": 1, "dropout": 0.1}),
    ]
}

/// Runs a job with the tables of the labels that the specification asks for.
fn run(task: Task, spec: &ModelSpec, artifact: &[u8]) -> Answer {
    let tables: Vec<_> = spec.objective.iter().filter_map(|o| o.label()).filter(|l| *l != "again").map(table).collect();
    let tables = if task == Task::Score { Vec::new() } else { tables };
    let mut job: Job = job(task, &source(), Some(spec), 1);
    job.tables = tables.iter().map(|(table, _)| table.clone()).collect();
    let batches: Vec<RecordBatch> = std::iter::once(events()).chain(tables.into_iter().map(|(_, rows)| rows)).collect();
    crate::driver::run(Path::new(env!("CARGO_BIN_EXE_persona-engine")), &job, artifact, &batches, |_| {})
}

fn trained(spec: &ModelSpec) -> Answer {
    let answer = run(Task::Train, spec, &[]);
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

#[test]
fn every_family_learns_classes_and_says_them() {
    for encoder in families() {
        let spec = spec(&encoder, json!({"kind": "classify", "label": "tier", "min_examples": 40}), "random");
        let answer = trained(&spec);
        assert!(test_metric(&answer, "tier.accuracy") > 0.95, "{encoder}");
        assert!(test_metric(&answer, "tier.auc") > 0.99, "{encoder}");
        assert_eq!(test_metric(&answer, "tier.confusion[gold as silver]"), 0.0, "{encoder}");
        let again = run(Task::Evaluate, &spec, &answer.artifact);
        assert_eq!(again.metrics, of_version(&answer), "{encoder}");
        let scored = run(Task::Score, &spec, &answer.artifact);
        assert!(matches!(scored.result, Some(Ok(_))), "{:?}", scored.result);
        let profiles = &scored.profiles[0];
        assert_eq!((profiles.num_rows() as i64, profiles.num_columns()), (ENTITIES, 7));
        let (tiers, sure) = (profiles.column(5).as_string::<i32>(), profiles.column(6).as_primitive::<Float32Type>());
        let right = (0..ENTITIES as usize).filter(|&entity| tiers.value(entity) == TIERS[entity % 3]).count();
        assert!(right as i64 > ENTITIES * 9 / 10, "{encoder}: {right}");
        assert!(sure.values().iter().all(|&p| (1.0 / 3.0..=1.0).contains(&p)));
        assert!(scored.items.is_empty());
    }
}

#[test]
fn every_family_learns_numbers() {
    for encoder in families() {
        let spec = spec(&encoder, json!({"kind": "regress", "label": "spend", "log": true, "loss": "mae"}), "random");
        let answer = trained(&spec);
        assert!(test_metric(&answer, "spend.mae") < 30.0, "{encoder}: {}", test_metric(&answer, "spend.mae"));
        let scored = run(Task::Score, &spec, &answer.artifact);
        let numbers = scored.profiles[0].column(5).as_primitive::<Float64Type>();
        assert!((numbers.value(0) - 0.0).abs() < 30.0 && (numbers.value(2) - 200.0).abs() < 60.0, "{encoder}");
    }
}

#[test]
fn folds_judge_every_entity_once() {
    let objective = json!({"kind": "classify", "label": "tier", "min_examples": 40, "class_weights": "balanced"});
    let answer = trained(&spec(&families()[2], objective, "k_fold"));
    assert_eq!(test_metric(&answer, "tier.cases"), ENTITIES as f64);
    assert!(test_metric(&answer, "tier.accuracy") > 0.95);
    assert_eq!(answer.judgements.len(), 1);
    assert_eq!((answer.judgements[0].subject.as_str(), answer.judgements[0].ids.len()), ("tier", ENTITIES as usize));
    let told: Vec<_> = answer.progress.iter().filter_map(|p| p.message.as_deref()).collect();
    assert!(told.iter().any(|message| message.starts_with("fold 3/3: epoch ")), "{told:?}");
}

#[test]
fn several_objectives_are_learned_at_once() {
    let objectives = json!([
        {"kind": "next_event", "field": "item"},
        {"kind": "classify", "label": "tier", "weight": 0.5, "min_examples": 40},
        {"kind": "regress", "label": "spend"},
    ]);
    let mut spec = spec(&families()[0], objectives, "random");
    spec.evaluation.seen = persona_core::spec::Seen::Keep;
    let answer = trained(&spec);
    assert!(test_metric(&answer, "hr@5") > 0.9 && test_metric(&answer, "tier.accuracy") > 0.95);
    assert!(test_metric(&answer, "spend.r2") > 0.5);
    let scored = run(Task::Score, &spec, &answer.artifact);
    assert_eq!(scored.profiles[0].num_columns(), 8);
    assert_eq!(scored.items[0].column(0).as_primitive::<Int64Type>().len(), 15);
}

#[test]
fn upcoming_events_are_learned_from_the_events_before() {
    // Item 0 comes every fifth event of a bronze entity, so the last item says whether it is among the next two.
    let spec = spec(&families()[1], json!({"kind": "classify", "label": "again", "min_examples": 5}), "temporal");
    let answer = trained(&spec);
    assert_eq!(test_metric(&answer, "again.cases"), ENTITIES as f64);
    assert!(test_metric(&answer, "again.auc") > 0.95, "{}", test_metric(&answer, "again.auc"));
    let scored = run(Task::Score, &spec, &answer.artifact);
    let classes = scored.profiles[0].column(5).as_primitive::<Int64Type>();
    assert!(classes.values().iter().all(|class| [0, 1].contains(class)));
}

#[test]
fn the_same_seed_gives_the_same_version() {
    let objective = json!({"kind": "classify", "label": "tier", "min_examples": 40});
    let spec = spec(&families()[2], objective, "random");
    assert!(trained(&spec).artifact == trained(&spec).artifact);
}

#[test]
fn too_few_examples_are_an_error_before_training() {
    let answer = run(Task::Train, &spec(&families()[2], json!({"kind": "classify", "label": "tier"}), "random"), &[]);
    let error = answer.result.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::InsufficientData);
    assert_eq!(error.message, "class \"bronze\" of label \"tier\" has 50 examples, fewer than 100");
    assert!(!answer.progress.iter().any(|progress| progress.epoch > 0));
}
