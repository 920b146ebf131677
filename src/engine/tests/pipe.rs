//! The engine as a Postgres process sees it: a program, two pipes, one job.

use crate::driver::{Answer, job, start};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use persona_core::ErrorKind;
use persona_core::artifact::Artifact;
use persona_core::protocol::{Frame, Job, Kind, Outcome, Phase, Role, Task, VERSION};
use persona_core::source::{Clock, Field, FieldKind, KeyType, SourceSchema, ValueType};
use persona_core::spec::ModelSpec;
use serde_json::json;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ENTITIES: i64 = 120;
const EVENTS: i64 = 12;
const ITEMS: i64 = 15;
const DAY: i64 = 86_400_000_000;

fn engine() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_persona-engine"))
}

fn source() -> SourceSchema {
    SourceSchema::new(
        KeyType::Text,
        Clock::Timestamp,
        vec![
            Field::new("item", FieldKind::Category, ValueType::Integer),
            Field::new("color", FieldKind::Category, ValueType::Text),
            Field::new("price", FieldKind::Number, ValueType::Number),
        ],
    )
}

/// Everybody walks round the items, each from another one; the next item is always known.
fn events() -> RecordBatch {
    let rows = || (0..ENTITIES).flat_map(|entity| (0..EVENTS).map(move |event| (entity, event)));
    let item = |(entity, event): (i64, i64)| (entity * 7 + event) % ITEMS;
    let keys: StringArray = rows().map(|(entity, _)| Some(format!("user {entity:03} ä"))).collect();
    let times = rows().map(|(entity, event)| event * DAY * (1 + entity % 3) + entity * 3_600_000_000);
    let colors: StringArray =
        rows().map(|row| (item(row) % 5 != 0).then_some(["red", "blue"][item(row) as usize % 2])).collect();
    let prices: Float64Array = rows().map(|row| (item(row) % 4 != 0).then_some(item(row) as f64 * 1.5)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(keys),
        Arc::new(Int64Array::from_iter_values(times)),
        Arc::new(Int64Array::from_iter_values(rows().map(item))),
        Arc::new(colors),
        Arc::new(prices),
    ];
    RecordBatch::try_new(source().arrow(), columns).unwrap()
}

fn spec(encoder: serde_json::Value) -> ModelSpec {
    let spec = json!({
        "encoder": encoder,
        "objective": {"kind": "next_event", "field": "item"},
        "training": {"split": "leave_one_out", "epochs": 12, "patience": 12, "batch_events": 256, "learning_rate": 0.01,
                     "warmup": 10, "device": "cpu"},
        "evaluation": {"seen": "keep", "k": [1, 5]},
    });
    ModelSpec::parse(&spec, &source()).unwrap()
}

fn run(job: &Job, artifact: &[u8]) -> Answer {
    crate::driver::run(engine(), job, artifact, &[events()], |_| {})
}

/// Trains; the engine must succeed.
fn trained(spec: &ModelSpec) -> (Answer, Outcome) {
    let answer = run(&job(Task::Train, &source(), Some(spec), 1), &[]);
    let outcome = answer.result.clone().expect("a last frame").unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(answer.code, Some(0));
    (answer, outcome)
}

fn test_metric(answer: &Answer, name: &str) -> f64 {
    let found = |m: &&persona_core::protocol::Metric| m.epoch.is_none() && m.split == "test" && m.metric == name;
    answer.metrics.iter().find(found).expect("a metric").value
}

fn families() -> [ModelSpec; 3] {
    let small = json!({"kind": "transformer", "dim": 16, "heads": 2, "length": 8, "dropout": 0.0});
    let mut rotary = small.clone();
    rotary["positions"] = json!("rotary");
    let gru = json!({"kind": "gru", "dim": 16, "layers": 2, "length": 8, "dropout": 0.0});
    [spec(small), spec(rotary), spec(gru)]
}

#[test]
fn every_family_learns_a_walk_and_scores_it() {
    for spec in families() {
        let (answer, outcome) = trained(&spec);
        assert!(test_metric(&answer, "hr@1") > 0.95, "{:?}: {}", spec.encoder, test_metric(&answer, "hr@1"));
        assert_eq!((outcome.entities, outcome.items, outcome.rows), (120, 15, 1440));
        assert!(outcome.best_epoch.is_some() && outcome.parameters > 0 && outcome.peak_memory_mb > 0);
        assert!(answer.progress.iter().any(|p| p.message.as_ref().is_some_and(|m| m.starts_with("epoch 1/12: loss "))));
        let scored = run(&job(Task::Score, &source(), None, 1), &answer.artifact);
        assert!(matches!(scored.result, Some(Ok(_))), "{:?}", scored.result);
        check_vectors(&scored);
    }
}

/// Every entity and item once, and the item of highest inner product is the next step of the walk.
fn check_vectors(scored: &Answer) {
    let profiles = &scored.profiles[0];
    assert_eq!(profiles.num_rows() as i64, ENTITIES);
    let keys = profiles.column(0).as_string::<i32>();
    assert!((1..keys.len()).all(|i| keys.value(i - 1) < keys.value(i)));
    assert!(profiles.column(1).as_primitive::<Int64Type>().values().iter().all(|&n| n == EVENTS));
    let last = profiles.column(3).as_primitive::<Int64Type>();
    assert_eq!(last.value(1), (EVENTS - 1) * DAY * 2 + 3_600_000_000);
    let items = &scored.items[0];
    assert_eq!(items.num_rows() as i64, ITEMS);
    let values = items.column(0).as_primitive::<Int64Type>();
    let (entity_vectors, item_vectors) = (vectors(profiles.column(4)), vectors(items.column(2)));
    let right = (0..ENTITIES).filter(|&entity| {
        let score = |item: &usize| -> f32 {
            entity_vectors[entity as usize].iter().zip(&item_vectors[*item]).map(|(a, b)| a * b).sum()
        };
        let best = (0..values.len()).max_by(|a, b| score(a).total_cmp(&score(b))).unwrap();
        values.value(best) == (entity * 7 + EVENTS) % ITEMS
    });
    assert!(right.count() as i64 > ENTITIES * 9 / 10);
}

fn vectors(column: &ArrayRef) -> Vec<Vec<f32>> {
    let halves = |bytes: &[u8]| bytes.chunks(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
    column.as_fixed_size_binary().iter().map(|bytes| halves(bytes.unwrap())).collect()
}

#[test]
fn the_same_seed_gives_the_same_version() {
    for spec in families() {
        let (first, _) = trained(&spec);
        let (second, _) = trained(&spec);
        assert!(first.artifact == second.artifact, "{:?}", spec.encoder);
        let mut other = spec.clone();
        other.training.seed += 1;
        assert!(trained(&other).0.artifact != first.artifact);
    }
}

#[test]
fn evaluating_a_stored_version_gives_its_metrics_again() {
    let (answer, _) = trained(&families()[0]);
    let again = run(&job(Task::Evaluate, &source(), None, 1), &answer.artifact);
    let whole: Vec<_> = answer.metrics.iter().filter(|metric| metric.epoch.is_none()).cloned().collect();
    assert!(!whole.is_empty());
    assert_eq!(again.metrics, whole);
}

#[test]
fn a_sampled_softmax_learns_the_walk_too() {
    let mut spec = families()[0].clone();
    let persona_core::spec::Objective::NextEvent(next) = &mut spec.objective.0[0] else { unreachable!() };
    (next.softmax, next.negatives) = (persona_core::spec::Softmax::Sampled, 64);
    assert!(test_metric(&trained(&spec).0, "hr@1") > 0.95);
}

#[test]
fn families_without_a_network_rank_by_what_they_counted() {
    for encoder in [
        json!({"kind": "transitions"}),
        json!({"kind": "knn", "decay": 0.3}),
        json!({"kind": "knn", "by": "user"}),
        json!({"kind": "knn", "by": "regression", "shrinkage": 1, "decay": 0.3}),
        json!({"kind": "mf", "dim": 8}),
        json!({"kind": "mf", "loss": "bpr", "dim": 8}),
        json!({"kind": "popularity"}),
    ] {
        let (answer, outcome) = trained(&spec(encoder.clone()));
        assert_eq!((outcome.device.as_str(), outcome.best_epoch), ("cpu", None));
        let again = run(&job(Task::Evaluate, &source(), None, 1), &answer.artifact);
        let whole: Vec<_> = answer.metrics.iter().filter(|metric| metric.epoch.is_none()).cloned().collect();
        assert_eq!(again.metrics, whole, "{encoder}");
        assert!(trained(&spec(encoder.clone())).0.artifact == answer.artifact, "{encoder}");
        let scored = run(&job(Task::Score, &source(), None, 1), &answer.artifact);
        match encoder["kind"] == "mf" {
            true => {
                assert!(matches!(scored.result, Some(Ok(_))), "{encoder}: {:?}", scored.result);
                assert_eq!(
                    (scored.profiles[0].num_rows() as i64, scored.items[0].num_rows() as i64),
                    (ENTITIES, ITEMS)
                );
            }
            false => assert_eq!(scored.result.unwrap().unwrap_err().kind, ErrorKind::Unsupported, "{encoder}"),
        }
    }
}

#[test]
fn a_blend_is_as_good_as_the_best_of_its_models() {
    let parts = [spec(json!({"kind": "transitions"})), spec(json!({"kind": "popularity"})), families()[1].clone()];
    let parts: Vec<Answer> = parts.iter().map(|spec| trained(spec).0).collect();
    let blend = spec(json!({"kind": "blend", "models": ["a", "b", "c"]}));
    let artifacts: Vec<(Role, &[u8])> = parts.iter().map(|part| (Role::Mixed, part.artifact.as_slice())).collect();
    let mixed = crate::driver::run_about(
        engine(),
        &job(Task::Train, &source(), Some(&blend), 1),
        &artifacts,
        &[events()],
        |_| {},
    );
    let outcome = mixed.result.clone().unwrap().unwrap();
    assert!(
        outcome.notes.iter().any(|note| note.starts_with("The weights of its models are \"a\" ")),
        "{:?}",
        outcome.notes
    );
    let valid = |answer: &Answer| {
        answer.metrics.iter().find(|m| m.epoch.is_none() && m.split == "valid" && m.metric == "ndcg@1").unwrap().value
    };
    assert!(parts.iter().all(|part| valid(&mixed) >= valid(part)));
    let again = run(&job(Task::Evaluate, &source(), None, 1), &mixed.artifact);
    assert_eq!(again.metrics, mixed.metrics);
    let other = ModelSpec { training: Default::default(), ..blend };
    let refused = crate::driver::run_about(
        engine(),
        &job(Task::Train, &source(), Some(&other), 1),
        &artifacts,
        &[events()],
        |_| {},
    );
    let error = refused.result.unwrap().unwrap_err();
    assert!(error.message.starts_with("a model of the blend was judged by another split"), "{error}");
}

#[test]
fn transitions_count_and_have_no_vectors() {
    let (answer, outcome) = trained(&spec(json!({"kind": "transitions"})));
    assert!(test_metric(&answer, "hr@1") > 0.95);
    assert_eq!(outcome.best_epoch, None);
    let scored = run(&job(Task::Score, &source(), None, 1), &answer.artifact);
    let error = scored.result.unwrap().unwrap_err();
    assert_eq!((error.kind, scored.code), (ErrorKind::Unsupported, Some(1)));
    assert!(error.hint.is_some());
}

#[test]
fn a_check_gives_findings() {
    let answer = run(&job(Task::Check, &source(), None, 1), &[]);
    assert!(matches!(answer.result, Some(Ok(_))));
    assert!(answer.findings.iter().any(|finding| finding.finding == "rows" && finding.value == "1440"));
}

#[test]
fn a_number_as_clock_comes_back_as_a_number() {
    let item = Field::new("item", FieldKind::Category, ValueType::Integer);
    let source = SourceSchema::new(KeyType::Integer, Clock::Number, vec![item]);
    let rows = || (0..300).map(|i| (i / 10, i % 10));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows().map(|(entity, _)| entity))),
        Arc::new(Float64Array::from_iter_values(rows().map(|(_, event)| event as f64 / 2.0))),
        Arc::new(Int64Array::from_iter_values(rows().map(|(entity, event)| (entity + event) % 7))),
    ];
    let events = RecordBatch::try_new(source.arrow(), columns).unwrap();
    let spec = &spec(json!({"kind": "gru", "dim": 8, "length": 8}));
    let train = crate::driver::run(
        engine(),
        &job(Task::Train, &source, Some(spec), 1),
        &[],
        std::slice::from_ref(&events),
        |_| {},
    );
    assert!(matches!(train.result, Some(Ok(_))), "{:?}", train.result);
    let score = crate::driver::run(
        engine(),
        &job(Task::Score, &source, None, 1),
        &train.artifact,
        std::slice::from_ref(&events),
        |_| {},
    );
    assert_eq!(score.profiles[0].column(3).as_primitive::<Float64Type>().value(0), 4.5);
    assert!(score.items[0].column(0).as_primitive::<Int64Type>().values().contains(&6));
}

#[test]
fn a_changed_source_and_a_damaged_version_are_errors() {
    let (answer, _) = trained(&families()[0]);
    let mut changed = source();
    changed.fields[2].kind = FieldKind::Category;
    let failed = run(&job(Task::Score, &changed, None, 1), &answer.artifact);
    assert!(failed.result.unwrap().unwrap_err().hint.is_some());
    let mut artifact = Artifact::from_bytes(&answer.artifact).unwrap();
    artifact.tensors.remove("weights.items.weight");
    let failed = run(&job(Task::Score, &source(), None, 1), &artifact.to_bytes().unwrap());
    assert_eq!(failed.result.unwrap().unwrap_err().kind, ErrorKind::InvalidData);
    let failed = run(&job(Task::Score, &source(), None, 1), &answer.artifact[..1000]);
    assert_eq!(failed.result.unwrap().unwrap_err().kind, ErrorKind::InvalidData);
}

#[test]
fn too_little_memory_is_an_error_that_names_the_setting() {
    let mut job = job(Task::Train, &source(), Some(&families()[0]), 1);
    job.limits.memory_mb = 1;
    let big = repeated(&events(), 60);
    let answer = crate::driver::run(engine(), &job, &[], &[big], |_| {});
    let error = answer.result.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::OutOfMemory);
    assert!(error.hint.unwrap().contains("persona.engine_memory"));
}

/// The same rows several times over.
fn repeated(batch: &RecordBatch, times: usize) -> RecordBatch {
    let rows = (0..times).flat_map(|_| 0..batch.num_rows());
    let keys: StringArray = rows.clone().map(|i| Some(batch.column(0).as_string::<i32>().value(i))).collect();
    let number = |column: usize| {
        Int64Array::from_iter_values(rows.clone().map(|i| batch.column(column).as_primitive::<Int64Type>().value(i)))
    };
    let colors: StringArray = rows.clone().map(|_| Some("red")).collect();
    let prices = Float64Array::from_iter_values(rows.clone().map(|i| i as f64));
    let columns: Vec<ArrayRef> =
        vec![Arc::new(keys), Arc::new(number(1)), Arc::new(number(2)), Arc::new(colors), Arc::new(prices)];
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

/// What the engine answers to bytes that are then followed by nothing.
fn answer_to(bytes: &[u8]) -> (Option<Frame>, Option<i32>) {
    let mut child = start(engine());
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    input.write_all(bytes).unwrap();
    let mut last = None;
    while let Ok(Some(frame)) = Frame::read_from(&mut output) {
        last = Some(frame);
    }
    (last, child.wait().unwrap().code())
}

#[test]
fn garbage_is_a_protocol_error() {
    let mut old = job(Task::Train, &source(), None, 1);
    old.protocol = VERSION + 1;
    let mut version = Vec::new();
    Frame::json(Kind::Job, &old).unwrap().write_to(&mut version).unwrap();
    for bytes in
        [b"garbage that is long enough".to_vec(), vec![1, 2, 0, 0, 0, b'{', b'}'], vec![4, 0, 0, 0, 0], version]
    {
        let (last, code) = answer_to(&bytes);
        let error: persona_core::Error = last.expect("a last frame").parse().unwrap();
        assert_eq!((error.kind, code), (ErrorKind::Protocol, Some(1)), "{error}");
    }
}

/// Waits for the end of a process that should come at once.
fn ends(child: &mut std::process::Child) -> Option<i32> {
    let begun = Instant::now();
    let code = child.wait().unwrap().code();
    assert!(begun.elapsed() < Duration::from_secs(5));
    code
}

#[test]
fn a_closed_input_ends_the_engine_quietly() {
    let mut child = start(engine());
    let mut input = child.stdin.take().unwrap();
    Frame::json(Kind::Job, &job(Task::Train, &source(), Some(&families()[0]), 1))
        .unwrap()
        .write_to(&mut input)
        .unwrap();
    drop(input);
    assert_eq!(ends(&mut child), Some(1));
    let mut rest = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
    let mut rest = rest.as_slice();
    while let Some(frame) = Frame::read_from(&mut rest).unwrap() {
        assert_eq!(frame.kind, Kind::Progress);
    }
}

#[test]
fn a_closed_input_ends_training_too() {
    let mut spec = families()[0].clone();
    (spec.training.epochs, spec.training.patience) = (10_000, 10_000);
    let mut child = start(engine());
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    Frame::json(Kind::Job, &job(Task::Train, &source(), Some(&spec), 1)).unwrap().write_to(&mut input).unwrap();
    let events = events();
    let mut columns = persona_core::protocol::ColumnWriter::new(Kind::Events, &events.schema()).unwrap();
    columns.write(&events).unwrap().iter().for_each(|frame| frame.write_to(&mut input).unwrap());
    Frame::new(Kind::End, Vec::new()).write_to(&mut input).unwrap();
    loop {
        let frame = Frame::read_from(&mut output).unwrap().expect("progress");
        if frame.kind == Kind::Progress
            && frame.parse::<persona_core::protocol::Progress>().unwrap().phase == Phase::Train
        {
            break;
        }
    }
    drop(input);
    assert_eq!(ends(&mut child), Some(1));
}
