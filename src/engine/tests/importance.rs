//! What tells how much of a label: ranked over events, kept by training, missed by a model; figures of groups; vectors of
//! fewer dimensions.

use crate::done;
use crate::driver::{Answer, job};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use half::f16;
use persona_core::ErrorKind;
use persona_core::protocol::{Ask, Holds, Job, Role, SideTable, Task};
use persona_core::reduction::{Lda, Pca, Reduce, Reduction};
use persona_core::source::{Clock, Field, FieldKind, KeyType, Label, LabelKind, LabelOrigin, SourceSchema, ValueType};
use persona_core::spec::ModelSpec;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

const ENTITIES: i64 = 240;
const EVENTS: i64 = 10;
const TIERS: [&str; 3] = ["bronze", "gold", "silver"];

fn source() -> SourceSchema {
    let fields = vec![
        Field::new("item", FieldKind::Category, ValueType::Integer),
        Field::new("shop", FieldKind::Category, ValueType::Text),
        Field::new("price", FieldKind::Number, ValueType::Number),
    ];
    let label = |name: &str, value| Label {
        name: name.into(),
        kind: LabelKind::Class,
        origin: LabelOrigin::Table { value, timed: false },
    };
    SourceSchema {
        labels: vec![label("tier", ValueType::Text), label("half", ValueType::Text)],
        ..SourceSchema::new(KeyType::Integer, Clock::Number, fields)
    }
}

fn noise(i: i64, salt: i64) -> i64 {
    (i * 7919 + salt * 104_729 + i * i * 31) % 1009
}

/// Entities of each tier have five items of their own, and go through them in order; shops and prices are noise.
fn events() -> RecordBatch {
    let rows = || (0..ENTITIES).flat_map(|entity| (0..EVENTS).map(move |event| (entity, event)));
    let shop = |(entity, event): (i64, i64)| Some(["x", "y", "z"][noise(entity * EVENTS + event, 1) as usize % 3]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows().map(|(entity, _)| entity))),
        Arc::new(Float64Array::from_iter_values(rows().map(|(_, event)| event as f64))),
        Arc::new(Int64Array::from_iter_values(rows().map(|(entity, event)| entity % 3 * 5 + (entity / 3 + event) % 5))),
        Arc::new(rows().map(shop).collect::<StringArray>()),
        Arc::new(Float64Array::from_iter_values(
            rows().map(|(entity, event)| noise(entity * EVENTS + event, 2) as f64),
        )),
    ];
    RecordBatch::try_new(source().arrow(), columns).unwrap()
}

fn table(label: &str) -> (SideTable, RecordBatch) {
    let source = source();
    let schema = source.label_table(source.label(label).unwrap()).unwrap();
    let truth = |entity: i64| match label {
        "tier" => Some(TIERS[entity as usize % 3]),
        _ => Some(["lower", "upper"][usize::from(entity >= ENTITIES / 2)]),
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..ENTITIES)),
        Arc::new(Float64Array::from_iter_values((0..ENTITIES).map(|_| 0.0))),
        Arc::new((0..ENTITIES).map(truth).collect::<StringArray>()),
    ];
    let rows = RecordBatch::try_new(schema.arrow(), columns).unwrap();
    (SideTable { holds: Holds::Label(label.into()), schema }, rows)
}

fn spec(training: Value) -> ModelSpec {
    let mut spec = json!({
        "encoder": {"kind": "dnn", "dim": 16, "members": 2, "layers": 1, "dropout": 0.1},
        "objective": {"kind": "classify", "label": "tier", "min_examples": 40},
        "training": {"split": "random", "folds": 3, "epochs": 25, "patience": 25, "batch_events": 256, "learning_rate": 0.01,
                     "warmup": 5, "valid": 0.2, "test": 0.2, "device": "cpu"},
    });
    let Value::Object(training) = training else { panic!("no object") };
    spec["training"].as_object_mut().unwrap().extend(training);
    ModelSpec::parse(&spec, &source()).unwrap()
}

fn run(task: Task, ask: Ask, labels: &[&str], spec: Option<&ModelSpec>, artifacts: &[&[u8]]) -> Answer {
    let tables: Vec<_> = labels.iter().map(|label| table(label)).collect();
    let mut job: Job = job(task, &source(), spec, 1);
    job.tables = tables.iter().map(|(table, _)| table.clone()).collect();
    job.ask = ask;
    let batches: Vec<RecordBatch> = std::iter::once(events()).chain(tables.into_iter().map(|(_, rows)| rows)).collect();
    match task {
        Task::Rank => crate::driver::run(Path::new(env!("CARGO_BIN_EXE_persona-check")), &job, &[], &batches, |_| {}),
        _ => {
            // After the version comes what belongs to it.
            let more = if task == Task::Score { Role::Mapping } else { Role::Folds };
            let role = |i| if i == 0 { Role::Subject } else { more };
            let stored: Vec<(Role, &[u8])> = artifacts.iter().enumerate().map(|(i, bytes)| (role(i), *bytes)).collect();
            crate::driver::run_about(Path::new(env!("CARGO_BIN_EXE_persona-engine")), &job, &stored, &batches, |_| {})
        }
    }
}

fn trained(spec: &ModelSpec) -> Answer {
    done(run(Task::Train, Ask::default(), &["tier"], Some(spec), &[]))
}

fn about(label: &str) -> Ask {
    Ask { label: Some(label.into()), ..Ask::default() }
}

fn figure(answer: &Answer, name: &str) -> f64 {
    answer.metrics.iter().find(|m| m.epoch.is_none() && m.split == "test" && m.metric == name).unwrap().value
}

#[test]
fn what_was_planted_is_ranked_first_by_all_methods() {
    let ranked = done(run(Task::Rank, about("tier"), &["tier"], None, &[])).features;
    for method in ["correlation", "mutual_information"] {
        let first = ranked.iter().find(|row| row.method == method && row.rank == 1).unwrap();
        assert!(first.feature.starts_with("item"), "{first:?}");
        let best_noise = ranked.iter().find(|row| row.method == method && !row.feature.starts_with("item")).unwrap();
        assert!(best_noise.rank > 15 && best_noise.value < 0.3 * first.value, "{best_noise:?}");
    }
    let spec = spec(json!({}));
    let version = trained(&spec).artifact;
    let missed = done(run(Task::Permute, about("tier"), &["tier"], Some(&spec), &[&version])).features;
    for method in ["permutation.auc", "permutation.log_loss"] {
        let of = |feature: &str| missed.iter().find(|row| row.method == method && row.feature == feature).unwrap();
        let (item, shop, price) = (of("item"), of("shop"), of("price"));
        assert_eq!(item.rank, 1);
        assert!(item.low.unwrap() > 0.2, "{item:?}");
        assert!(shop.value.abs() < 0.05 && price.value.abs() < 0.05, "{shop:?} {price:?}");
    }
    let again = done(run(Task::Permute, about("tier"), &["tier"], Some(&spec), &[&version])).features;
    assert_eq!(again, missed);
}

#[test]
fn a_model_that_has_seen_all_is_not_permuted() {
    let spec = spec(json!({"split": "k_fold", "epochs": 1}));
    let version = trained(&spec).artifact;
    let error = run(Task::Permute, about("tier"), &["tier"], Some(&spec), &[&version]).result.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
}

#[test]
fn a_selection_keeps_what_was_planted() {
    for split in ["random", "k_fold"] {
        let spec = spec(json!({"split": split, "select": {"keep": 15}}));
        let answer = trained(&spec);
        let notes = &answer.result.as_ref().unwrap().as_ref().unwrap().notes;
        let kept = "Kept by mutual_information: 15 of 15 values of \"item\", 0 of 3 values of \"shop\", not \"price\".";
        assert!(notes.iter().any(|note| note == kept), "{notes:?}");
        assert!(figure(&answer, "tier.accuracy") > 0.95);
        let scored = done(run(Task::Score, Ask::default(), &[], Some(&spec), &[&answer.artifact]));
        let tiers = scored.profiles[0].column(5).as_string::<i32>().clone();
        let right = (0..ENTITIES as usize).filter(|&entity| tiers.value(entity) == TIERS[entity % 3]).count();
        assert!(right as i64 > ENTITIES * 9 / 10, "{right}");
        assert!(trained(&spec).artifact == answer.artifact);
    }
}

#[test]
fn groups_have_figures_of_their_own() {
    let spec = spec(json!({}));
    let version = trained(&spec).artifact;
    let by = |by: &str, labels: &[&str]| {
        let ask = Ask { by: Some(by.into()), ..Ask::default() };
        run(Task::Evaluate, ask, labels, Some(&spec), &[&version])
    };
    let halves = done(by("half", &["tier", "half"]));
    let test = |answer: &Answer, segment: &str| {
        let found = answer.segments.iter().find(|s| s.segment == segment && s.metrics[0].split == "test");
        let found = found.unwrap_or_else(|| panic!("no {segment}"));
        let accuracy = found.metrics.iter().find(|m| m.metric == "tier.accuracy").unwrap();
        assert!(accuracy.low.is_some());
        (found.cases, accuracy.value)
    };
    let (all, lower, upper) = (test(&halves, "(all)"), test(&halves, "lower"), test(&halves, "upper"));
    assert_eq!(all.0, lower.0 + upper.0);
    let mean = (lower.1 * lower.0 as f64 + upper.1 * upper.0 as f64) / all.0 as f64;
    assert!((all.1 - mean).abs() < 1e-9 && (all.1 - figure(&halves, "tier.accuracy")).abs() < 1e-9);
    let shops = done(by("shop", &["tier"]));
    assert_eq!(test(&shops, "(all)").0, ["x", "y", "z"].iter().map(|shop| test(&shops, shop).0).sum::<u64>());
    let error = by("price", &["tier"]).result.unwrap().unwrap_err();
    assert_eq!(error.message, "cases cannot be grouped by \"price\" of kind number");
    let error = by("color", &["tier"]).result.unwrap().unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("Cases can be grouped by \"item\", \"shop\", \"tier\" and \"half\"."));
}

#[test]
fn groups_of_folds_are_judged_by_what_the_folds_said() {
    let spec = spec(json!({"split": "k_fold"}));
    let answer = trained(&spec);
    let judged = answer.judgements[0].to_bytes().unwrap();
    let ask = Ask { by: Some("half".into()), ..Ask::default() };
    let halves = done(run(Task::Evaluate, ask, &["tier", "half"], Some(&spec), &[&answer.artifact, &judged])).segments;
    let of: Vec<_> = halves.iter().map(|s| (s.segment.as_str(), s.cases)).collect();
    assert_eq!(of, [("(all)", 240), ("lower", 120), ("upper", 120)]);
    let accuracy = halves[0].metrics.iter().find(|m| m.metric == "tier.accuracy").unwrap();
    assert_eq!((accuracy.value, accuracy.split.as_str()), (figure(&answer, "tier.accuracy"), "test"));
}

fn vectors(batches: &[RecordBatch], column: usize) -> Vec<Vec<f32>> {
    let of = |batch: &RecordBatch| {
        let column = batch.column(column).as_fixed_size_binary().clone();
        let halves = |bytes: &[u8]| bytes.chunks_exact(2).map(|h| f16::from_le_bytes([h[0], h[1]]).to_f32()).collect();
        (0..column.len()).map(|i| halves(column.value(i))).collect::<Vec<Vec<f32>>>()
    };
    batches.iter().flat_map(of).collect()
}

#[test]
fn components_keep_scores_and_a_stored_mapping_is_used_again() {
    let next = json!({
        "encoder": {"kind": "gru", "dim": 16, "length": 8, "dropout": 0.1},
        "objective": {"kind": "next_event", "field": "item"},
        "training": {"split": "random", "epochs": 10, "batch_events": 256, "learning_rate": 0.01, "valid": 0.2, "test": 0.2,
                     "device": "cpu", "precision": "f32"},
        "evaluation": {"seen": "keep"},
    });
    let next = ModelSpec::parse(&next, &source()).unwrap();
    let version = done(run(Task::Train, Ask::default(), &[], Some(&next), &[])).artifact;
    let whole = done(run(Task::Score, Ask::default(), &[], Some(&next), &[&version]));
    let ask = || Ask { reduce: Some(Reduce::Pca(Pca { dim: 12 })), ..Ask::default() };
    let reduced = done(run(Task::Score, ask(), &[], Some(&next), &[&version]));
    let products = |answer: &Answer| {
        let (profiles, items) = (vectors(&answer.profiles, 4), vectors(&answer.items, 2));
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        profiles.iter().flat_map(|p| items.iter().map(|i| product(p, i)).collect::<Vec<f32>>()).collect::<Vec<f32>>()
    };
    assert_eq!((vectors(&reduced.profiles, 4)[0].len(), vectors(&reduced.items, 2)[0].len()), (12, 12));
    let (before, after) = (products(&whole), products(&reduced));
    let error = before.iter().zip(&after).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    let size = before.iter().map(|a| a.powi(2)).sum::<f32>();
    assert!(error < 0.01 * size, "{error} of {size}");
    let notes = &reduced.result.as_ref().unwrap().as_ref().unwrap().notes;
    assert!(notes.iter().any(|note| note.starts_with("12 of 16 dimensions explain ")), "{notes:?}");
    let mapping = reduced.artifact.clone();
    assert_eq!(Reduction::from_bytes(&mapping).unwrap().dim(), 12);
    let again = done(run(Task::Score, ask(), &[], Some(&next), &[&version, &mapping]));
    assert!(again.artifact.is_empty() && again.profiles == reduced.profiles && again.items == reduced.items);
}

#[test]
fn discriminants_tell_classes_apart() {
    let spec = spec(json!({}));
    let version = trained(&spec).artifact;
    let ask = |dim| Ask { reduce: Some(Reduce::Lda(Lda { label: "tier".into(), dim: Some(dim) })), ..Ask::default() };
    let scored = done(run(Task::Score, ask(2), &["tier"], Some(&spec), &[&version]));
    let points = vectors(&scored.profiles, 4);
    assert!(points.iter().all(|point| point.len() == 2) && scored.items.is_empty());
    let centers: Vec<[f32; 2]> = (0..3)
        .map(|tier| {
            let of = || points.iter().skip(tier).step_by(3);
            let n = of().count() as f32;
            [of().map(|p| p[0]).sum::<f32>() / n, of().map(|p| p[1]).sum::<f32>() / n]
        })
        .collect();
    let near = |point: &Vec<f32>| {
        let away = |c: &[f32; 2]| (point[0] - c[0]).powi(2) + (point[1] - c[1]).powi(2);
        (0..3).min_by(|&a, &b| away(&centers[a]).total_cmp(&away(&centers[b]))).unwrap()
    };
    let right = points.iter().enumerate().filter(|(entity, point)| near(point) == entity % 3).count();
    assert!(right as i64 > ENTITIES * 9 / 10, "{right}");
    let error = run(Task::Score, ask(3), &["tier"], Some(&spec), &[&version]).result.unwrap().unwrap_err();
    assert_eq!(error.message, "3 classes give at most 2 dimensions, not 3");
}
