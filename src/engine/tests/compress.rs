//! Smaller versions of versions: pruned, of less precision, and students of a teacher.

use crate::done;
use crate::driver::{Answer, job};
use crate::specs::{again, next, short};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use persona_core::ErrorKind;
use persona_core::artifact::Artifact;
use persona_core::protocol::{Ask, Compressed, Job, Role, Task};
use persona_core::source::{
    Clock, Field, FieldKind, KeyType, Label, LabelKind, LabelOrigin, SourceSchema, Upcoming, ValueType,
};
use persona_core::spec::{Compression, ModelSpec};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

const ENTITIES: i64 = 150;
const EVENTS: i64 = 20;
const ITEMS: i64 = 40;

fn source() -> SourceSchema {
    let item = Field::new("item", FieldKind::Category, ValueType::Integer);
    let upcoming = Upcoming { event: [("item".to_string(), "0".to_string())].into(), absent: false, within: 4.0 };
    let again = Label { name: "again".into(), kind: LabelKind::Class, origin: LabelOrigin::Events(upcoming) };
    SourceSchema { labels: vec![again], ..SourceSchema::new(KeyType::Integer, Clock::Number, vec![item]) }
}

/// Everybody walks round the items from another one, and jumps now and then.
fn events() -> RecordBatch {
    let rows = || (0..ENTITIES).flat_map(|entity| (0..EVENTS).map(move |event| (entity, event)));
    let jump = |entity: i64, event: i64| if (entity * 31 + event * 17) % 7 == 0 { 11 } else { 0 };
    let item = |(entity, event): (i64, i64)| (entity * 7 + event + jump(entity, event)) % ITEMS;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows().map(|(entity, _)| entity))),
        Arc::new(Float64Array::from_iter_values(rows().map(|(_, event)| event as f64))),
        Arc::new(Int64Array::from_iter_values(rows().map(item))),
    ];
    RecordBatch::try_new(source().arrow(), columns).unwrap()
}

fn spec(encoder: Value, objective: Value, training: Value) -> ModelSpec {
    short(&source(), 10, encoder, objective, training)
}

fn small(kind: &str) -> Value {
    json!({"kind": kind, "dim": 32, "length": 8, "dropout": 0.0})
}

fn run(job: &Job, stored: &[(Role, &[u8])]) -> Answer {
    crate::driver::run_about(Path::new(env!("CARGO_BIN_EXE_persona-engine")), job, stored, &[events()], |_| {})
}

fn trained(spec: &ModelSpec, stored: &[(Role, &[u8])]) -> Answer {
    done(run(&job(Task::Train, &source(), Some(spec), 1), stored))
}

fn evaluated(artifact: &[u8]) -> Answer {
    let engine = Path::new(env!("CARGO_BIN_EXE_persona-engine"));
    done(crate::driver::run(engine, &job(Task::Evaluate, &source(), None, 1), artifact, &[events()], |_| {}))
}

fn compress(spec: &ModelSpec, of: &[u8], options: Value) -> Answer {
    let ask = Ask { compression: Some(Compression::parse(&options).unwrap()), ..Ask::default() };
    run(&Job { ask, ..job(Task::Compress, &source(), Some(spec), 1) }, &[(Role::Subject, of)])
}

fn compressed(answer: &Answer) -> Compressed {
    answer.result.clone().unwrap().unwrap().compressed.unwrap()
}

/// After and before.
fn figure(compressed: &Compressed, name: &str) -> (f64, f64) {
    let figure = compressed.figures.iter().find(|figure| figure.metric == name).unwrap();
    assert_eq!(figure.split, "test");
    (figure.after, figure.before)
}

fn networks() -> [(Value, Value, &'static str); 3] {
    [
        (small("transformer"), next(), "ndcg@5"),
        (small("gru"), json!([next(), again()]), "again.auc"),
        (json!({"kind": "dnn", "dim": 32, "members": 2, "layers": 1}), again(), "again.auc"),
    ]
}

#[test]
fn less_precision_takes_fewer_bytes_and_says_about_the_same() {
    for (encoder, objective, metric) in networks() {
        let spec = spec(encoder.clone(), objective, json!({}));
        let whole = trained(&spec, &[]).artifact;
        for (weights, share, off) in [("half", 0.85, 0.01), ("int8", 0.75, 0.05)] {
            let answer = done(compress(&spec, &whole, json!({"weights": weights})));
            let report = compressed(&answer);
            assert_eq!((report.bytes_before, report.bytes_after), (whole.len() as u64, answer.artifact.len() as u64));
            assert!((report.bytes_after as f64) < share * whole.len() as f64, "{encoder} {weights}: {report:?}");
            let (after, before) = figure(&report, metric);
            assert!((after - before).abs() < off, "{encoder} {weights}: {after} and {before}");
            assert!(report.speed_before > 0.0 && report.speed_after > 0.0);
            // What is told of the smaller version is what it says when it is asked again.
            assert_eq!(evaluated(&answer.artifact).metrics, answer.metrics, "{encoder} {weights}");
            assert_eq!(answer.judgements.len(), evaluated(&whole).judgements.len());
        }
    }
}

#[test]
fn what_is_pruned_is_as_much_as_asked_for_and_stays_zero_when_trained_on() {
    for (encoder, objective, metric) in networks() {
        let spec = spec(encoder.clone(), objective, json!({}));
        let whole = trained(&spec, &[]).artifact;
        let cut = compressed(&done(compress(&spec, &whole, json!({"prune": 0.8}))));
        let options = json!({"prune": 0.8, "epochs": 8, "weights": "half"});
        let answer = done(compress(&spec, &whole, options.clone()));
        let report = compressed(&answer);
        for report in [&cut, &report] {
            assert!((report.zeros - 0.8).abs() < 0.002, "{encoder}: {report:?}");
            assert!(report.bytes_after < report.bytes_before, "{encoder}: {report:?}");
        }
        assert!(report.bytes_after < cut.bytes_after);
        assert!(figure(&report, metric).0 >= figure(&cut, metric).0 - 0.01, "{encoder}: {cut:?} {report:?}");
        let artifact = Artifact::from_bytes(&answer.artifact).unwrap();
        let norm = artifact.weight(if encoder["kind"] == "dnn" { "bias" } else { "norm.weight" }).unwrap().unwrap();
        assert!(norm.numbers.iter().any(|number| *number != 0.0));
        assert!(done(compress(&spec, &whole, options)).artifact == answer.artifact, "{encoder}");
    }
}

#[test]
fn families_that_count_have_nothing_to_compress() {
    let counts = spec(json!({"kind": "transitions"}), next(), json!({}));
    let version = trained(&counts, &[]).artifact;
    let error = compress(&counts, &version, json!({"weights": "half"})).result.unwrap().unwrap_err();
    assert_eq!((error.kind, error.hint.is_some()), (ErrorKind::Unsupported, true));
}

/// Of each entity the probability of the class 1.
fn said(artifact: &[u8]) -> Vec<f32> {
    let scored = done(run(&job(Task::Score, &source(), None, 1), &[(Role::Subject, artifact)]));
    let (classes, sure) = (scored.profiles[0].column(5), scored.profiles[0].column(6));
    let rows = classes.as_primitive::<Int64Type>().values().iter().zip(sure.as_primitive::<Float32Type>().values());
    rows.map(|(&class, &sure)| if class == 1 { sure } else { 1.0 - sure }).collect()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
}

#[test]
fn a_student_of_labels_is_nearer_to_its_teacher_than_one_without() {
    // Classes that count the same make a teacher that takes the rare one to be likelier than it is.
    let mut balanced = again();
    balanced["class_weights"] = json!("balanced");
    let teacher = trained(&spec(small("transformer"), balanced, json!({})), &[]);
    let dnn = json!({"kind": "dnn", "dim": 8, "members": 1, "layers": 0});
    let alone = trained(&spec(dnn.clone(), again(), json!({})), &[]);
    let taught = json!({"teacher": {"model": "teacher@1", "weight": 1, "temperature": 2}});
    let student = trained(&spec(dnn, again(), taught), &[(Role::Teacher, &teacher.artifact)]);
    let of = |answer: &Answer| distance(&said(&answer.artifact), &said(&teacher.artifact));
    assert!(of(&student) < of(&alone), "{} and {}", of(&student), of(&alone));
    let report = compressed(&student);
    assert_eq!(report.bytes_before, teacher.artifact.len() as u64);
    let told =
        teacher.metrics.iter().find(|m| m.epoch.is_none() && m.split == "test" && m.metric == "again.auc").unwrap();
    assert_eq!(figure(&report, "again.auc").1, told.value);
}

/// Inner products of entities and items, as the profile's would be ranked.
fn scores(artifact: &[u8]) -> Vec<f32> {
    let scored = done(run(&job(Task::Score, &source(), None, 1), &[(Role::Subject, artifact)]));
    let halves = |batch: &RecordBatch, column: usize| -> Vec<Vec<f32>> {
        let vector = |bytes: &[u8]| bytes.chunks(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
        batch.column(column).as_fixed_size_binary().iter().map(|bytes| vector(bytes.unwrap())).collect()
    };
    let (entities, items) = (halves(&scored.profiles[0], 4), halves(&scored.items[0], 2));
    let softmax = |entity: &Vec<f32>| -> Vec<f32> {
        let scores = items.iter().map(|item| entity.iter().zip(item).map(|(a, b)| a * b).sum::<f32>().exp());
        let scores: Vec<f32> = scores.collect();
        let sum: f32 = scores.iter().sum();
        scores.into_iter().map(|score| score / sum).collect()
    };
    entities.iter().flat_map(softmax).collect()
}

#[test]
fn a_student_of_next_events_is_nearer_to_its_teacher_than_one_without() {
    let teacher = trained(&spec(small("transformer"), next(), json!({})), &[]);
    let taught = json!({"teacher": {"model": "teacher@1", "weight": 0.9, "temperature": 2}});
    let gru = json!({"kind": "gru", "dim": 8, "length": 12, "dropout": 0.0});
    let alone = trained(&spec(gru.clone(), next(), json!({})), &[]);
    let student = trained(&spec(gru.clone(), next(), taught.clone()), &[(Role::Teacher, &teacher.artifact)]);
    let theirs = scores(&teacher.artifact);
    let of = |answer: &Answer| distance(&scores(&answer.artifact), &theirs);
    assert!(of(&student) < of(&alone), "{} and {}", of(&student), of(&alone));
    let again = trained(&spec(gru, next(), taught.clone()), &[(Role::Teacher, &teacher.artifact)]);
    assert!(again.artifact == student.artifact);
    // A sample of items, and a family that scores pairs.
    let sampled = json!({"kind": "next_event", "field": "item", "softmax": "sampled", "negatives": 16});
    let ncf = json!({"kind": "ncf", "dim": 8, "negatives": 16});
    for (encoder, objective) in [(small("gru"), sampled), (ncf, next())] {
        let student = trained(&spec(encoder, objective, taught.clone()), &[(Role::Teacher, &teacher.artifact)]);
        assert!(figure(&compressed(&student), "hr@5").0 > 0.5);
    }
}
