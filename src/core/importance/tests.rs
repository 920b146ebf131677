use super::*;
use crate::events::{Column, Events, Keys, NULL, Report, Values};
use crate::features::{Encoded, FIRST, Fitted, Input, UNKNOWN};
use crate::labels::{Example, Examples};
use crate::source::{
    Attributes, Clock, Field, FieldKind, KeyType, Label, LabelKind, LabelOrigin, SourceSchema, ValueType,
};
use crate::spec::{ModelSpec, Select};
use serde_json::json;

const ENTITIES: usize = 240;
const EVENTS: usize = 6;

fn field(name: &str, kind: FieldKind, value: ValueType) -> Field {
    Field::new(name, kind, value)
}

fn source() -> SourceSchema {
    let label =
        |name: &str, kind, value| Label { name: name.into(), kind, origin: LabelOrigin::Table { value, timed: true } };
    let fields = vec![
        field("item", FieldKind::Category, ValueType::Integer),
        field("price", FieldKind::Number, ValueType::Number),
        field("tags", FieldKind::Tags, ValueType::Text),
        field("words", FieldKind::Text, ValueType::Text),
    ];
    SourceSchema {
        attributes: vec![Attributes {
            on: None,
            key: KeyType::Integer,
            fields: vec![
                field("region", FieldKind::Category, ValueType::Text),
                field("age", FieldKind::Number, ValueType::Number),
            ],
        }],
        labels: vec![
            label("gold", LabelKind::Class, ValueType::Integer),
            label("tier", LabelKind::Class, ValueType::Integer),
            label("spend", LabelKind::Number, ValueType::Number),
        ],
        ..SourceSchema::new(KeyType::Integer, Clock::Number, fields)
    }
}

/// A number without a pattern.
fn noise(i: usize, salt: usize) -> usize {
    (i * 7919 + salt * 104_729 + i * i * 31) % 1009
}

/// Of two kinds: the odd ones have item 3 in the first half of their history and dearer things; the rest is noise. The last
/// two events come after the label's time, and say the opposite.
fn events() -> Events {
    let rows = || (0..ENTITIES).flat_map(|entity| (0..EVENTS).map(move |event| (entity, event)));
    let item = |(entity, event): (usize, usize)| match event {
        0 if entity % 2 == 1 => 3,
        0..4 => [0, 1, 2, 4, 5][noise(entity * EVENTS + event, 1) % 5],
        _ if entity % 2 == 0 => 3,
        _ => 0,
    };
    let price = |(entity, event): (usize, usize)| {
        let noise = noise(entity * EVENTS + event, 2) as f32 / 100.0;
        noise + if event < 4 { (entity % 2 * 4) as f32 } else { ((1 - entity % 2) * 400) as f32 }
    };
    let ages = rows().map(|(entity, _)| (20 + noise(entity, 3) % 50) as f32).collect();
    Events {
        keys: Keys::Integer((0..ENTITIES as i64).collect()),
        offsets: (0..=ENTITIES).map(|entity| entity * EVENTS).collect(),
        time: rows().map(|(_, event)| event as f64).collect(),
        columns: vec![
            Column::Category {
                codes: rows().map(item).collect(),
                values: Values::Integer(vec![10, 11, 12, 13, 14, 15]),
            },
            Column::Number(rows().map(price).collect()),
            Column::Category {
                codes: rows().map(|(entity, event)| (noise(entity + event, 4) % 3) as u32).collect(),
                values: Values::Text(["[\"x\"]", "[\"x\", \"y\"]", "[]"].iter().collect()),
            },
            Column::Category {
                codes: rows()
                    .map(
                        |(entity, event)| {
                            if noise(entity + event, 5).is_multiple_of(4) { NULL } else { entity as u32 % 2 }
                        },
                    )
                    .collect(),
                values: Values::Text(["plain words", "other words"].iter().collect()),
            },
            Column::Category {
                codes: rows().map(|(entity, _)| (noise(entity, 6) % 2) as u32).collect(),
                values: Values::Text(["north", "south"].iter().collect()),
            },
            Column::Number(ages),
        ],
        report: Report::default(),
    }
}

fn examples(label: &str) -> Examples {
    let source = source();
    let label = source.label(label).unwrap();
    let rows = || 0..ENTITIES;
    let column = match label.name.as_str() {
        "gold" => {
            Column::Category { codes: rows().map(|e| e as u32 % 2).collect(), values: Values::Integer(vec![0, 1]) }
        }
        "tier" => {
            // Twos are half of the odd ones.
            let tier = |e: usize| if e.is_multiple_of(2) { 0 } else { 1 + (e / 2 % 2) as u32 };
            Column::Category { codes: rows().map(tier).collect(), values: Values::Integer(vec![0, 1, 2]) }
        }
        _ => Column::Number(rows().map(|e| (e % 2 * 100 + e % 3) as f32).collect()),
    };
    let table = Events {
        keys: Keys::Integer((0..ENTITIES as i64).collect()),
        offsets: (0..=ENTITIES).collect(),
        time: vec![3.5; ENTITIES],
        columns: vec![column],
        report: Report::default(),
    };
    Examples::new(label, &source.with_attributes(), &events(), Some(&table), 1).unwrap()
}

fn rows(label: &str) -> Vec<Importance> {
    let (source, events, examples) = (source(), events(), examples(label));
    let knowledge = Knowledge { events: &events, source: &source, examples: &examples };
    let rows = rank(&knowledge, 1).unwrap();
    assert_eq!(rows, rank(&knowledge, 3).unwrap());
    rows
}

fn row<'a>(rows: &'a [Importance], feature: &str, method: Method) -> &'a Importance {
    rows.iter()
        .find(|row| row.feature == feature && row.method == method.name())
        .unwrap_or_else(|| panic!("no {feature}"))
}

#[test]
fn what_was_planted_comes_first_by_every_method_and_label() {
    for label in ["gold", "tier", "spend"] {
        let rows = rows(label);
        for method in [Method::Correlation, Method::MutualInformation] {
            let first: Vec<_> = rows.iter().filter(|row| row.method == method.name()).take(3).collect();
            assert_eq!((first[0].feature.as_str(), first[0].rank), ("item=13", 1), "{label}: {first:?}");
            assert!(row(&rows, "price.mean", method).rank <= 6, "{label}: {first:?}");
            for noise in ["item=10", "region", "region=north", "age", "tags=x", "activity.recency"] {
                let Some(row) = rows.iter().find(|row| row.feature == noise && row.method == method.name()) else {
                    continue;
                };
                assert!(row.value.abs() < 0.3, "{label} {row:?}");
                assert!(row.low.is_none_or(|low| low < 0.1), "{label} {row:?}");
            }
        }
    }
}

#[test]
fn figures_are_those_of_the_histories_alone() {
    let rows = rows("gold");
    // Item 13 is once in the history of every odd entity and of no other.
    let sure = row(&rows, "item=13", Method::Correlation);
    assert!((sure.value - 1.0).abs() < 1e-9 && (sure.low.unwrap() - 1.0).abs() < 1e-9);
    let told = row(&rows, "item=13", Method::MutualInformation);
    let bias = 1.0 / (2.0 * ENTITIES as f64 * std::f64::consts::LN_2);
    assert!((told.value - (1.0 + bias)).abs() < 1e-9, "{told:?}");
    // By brute force: the counts of item 10 among the first four events of each.
    let Column::Category { codes, .. } = &events().columns[0] else { panic!("no category") };
    let counts: Vec<f64> =
        (0..ENTITIES).map(|e| codes[e * EVENTS..e * EVENTS + 4].iter().filter(|&&c| c == 0).count() as f64).collect();
    let truth: Vec<f64> = (0..ENTITIES).map(|e| (e % 2) as f64).collect();
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (x, y) = (mean(&counts), mean(&truth));
    let sum = |f: &dyn Fn(usize) -> f64| (0..ENTITIES).map(f).sum::<f64>();
    let r = sum(&|i| (counts[i] - x) * (truth[i] - y))
        / (sum(&|i| (counts[i] - x).powi(2)) * sum(&|i| (truth[i] - y).powi(2))).sqrt();
    let correlated = row(&rows, "item=10", Method::Correlation);
    assert!((correlated.value - r).abs() < 1e-9, "{correlated:?} {r}");
    assert!(correlated.low.unwrap() < r && r < correlated.high.unwrap());
    // All histories have four events a unit apart, so activity says nothing: constant, without a correlation.
    assert!(!rows.iter().any(|row| row.feature == "activity.events" && row.method == "correlation"));
    assert!(row(&rows, "activity.events", Method::MutualInformation).value.abs() < 1e-9);
}

#[test]
fn a_field_as_a_whole_says_what_one_event_does() {
    // One event of four of an odd entity is item 13, which no even one has: without chance's share of it,
    // H(1/2) - 7/8 H(3/7) bits and, as chi^2 / n, the share of the variance of 1/8 sure and 7/8 at 3/7.
    let rows = rows("gold");
    let entropy = |p: f64| -(p * p.log2() + (1.0 - p) * (1.0 - p).log2());
    let bits = 1.0 - 7.0 / 8.0 * entropy(3.0 / 7.0);
    let whole = row(&rows, "item", Method::MutualInformation);
    assert!((whole.value - bits).abs() < 0.02, "{whole:?} {bits}");
    let v = (4.0f64 * (1.0 / 8.0 * 0.25 + 7.0 / 8.0 * (3.0f64 / 7.0 - 0.5).powi(2))).sqrt();
    let whole = row(&rows, "item", Method::Correlation);
    assert!((whole.value - v).abs() < 0.03, "{whole:?} {v}");
}

fn encoded(spec: &ModelSpec) -> (Fitted, Encoded) {
    let events = events();
    let fitted = Fitted::fit(&events, &source().with_attributes(), spec, &events.offsets[1..]).unwrap();
    (fitted.clone(), fitted.encode(events).unwrap())
}

fn spec() -> ModelSpec {
    let spec = json!({"encoder": {"kind": "dnn"}, "objective": {"kind": "classify", "label": "gold"}});
    ModelSpec::parse(&spec, &source()).unwrap()
}

fn selection(keep: usize, by: Method) -> (Fitted, Encoded, Selection) {
    let (fitted, encoded) = encoded(&spec());
    let examples = examples("gold");
    let all: Vec<usize> = (0..ENTITIES).collect();
    let selection = Selection::new(&Select { keep, by }, &encoded, &[(&examples, &all)]).unwrap();
    (fitted, encoded, selection)
}

#[test]
fn the_best_are_kept_and_the_rest_is_unknown() {
    for by in [Method::MutualInformation, Method::Correlation] {
        let (fitted, encoded, selection) = selection(1, by);
        let narrow = fitted.narrow(&encoded, &selection);
        let [Input::Category { name, codes, size }] = narrow.inputs.as_slice() else { panic!("{:?}", narrow.inputs) };
        assert_eq!((name.as_str(), *size), ("item", FIRST as usize + 1));
        // Odd entities have it first, even ones after their history.
        assert_eq!(codes[..12], [1, 1, 1, 1, FIRST, FIRST, FIRST, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN]);
        assert_eq!(
            selection.note(&encoded, by),
            format!(
                "Kept by {}: 1 of 6 values of \"item\", not \"price\", 0 of 2 values of \"tags\", \
            0 of 49 values of \"words\", 0 of 2 values of \"region\", not \"age\".",
                by.name()
            )
        );
    }
}

#[test]
fn what_is_narrowed_is_what_scoring_will_see() {
    for keep in [1, 3, 9, 20, 1000] {
        let (fitted, encoded, selection) = selection(keep, Method::MutualInformation);
        let narrowed = fitted.narrowed(&selection);
        assert_eq!(narrowed.encode(events()).unwrap(), fitted.narrow(&encoded, &selection), "{keep}");
    }
    let (fitted, encoded, selection) = selection(1000, Method::MutualInformation);
    assert_eq!(fitted.narrow(&encoded, &selection), encoded);
}

#[test]
fn a_selection_looks_at_its_examples_alone() {
    let (_, encoded) = encoded(&spec());
    // Of the first half of the entities gold are those with item 13; of the second half everything is noise.
    let mut examples = examples("gold");
    let half: Vec<usize> = (0..ENTITIES / 2).collect();
    let select = Select { keep: 2, by: Method::MutualInformation };
    let before = Selection::new(&select, &encoded, &[(&examples, &half)]).unwrap();
    examples.rows.iter_mut().skip(ENTITIES / 2).for_each(|row: &mut Example| {
        row.truth = crate::labels::Truth::Class(u32::from(noise(row.entity, 9).is_multiple_of(2)));
    });
    assert_eq!(Selection::new(&select, &encoded, &[(&examples, &half)]).unwrap(), before);
}

#[test]
fn information_below_none_is_less_than_none() {
    let row = |feature: &str, method: &str, value| Importance {
        feature: feature.into(),
        method: method.into(),
        value,
        low: None,
        high: None,
        rank: 0,
    };
    let (c, m) = ("correlation", "mutual_information");
    let rows = [row("a", c, 0.1), row("b", c, -0.2), row("a", m, 0.1), row("b", m, -0.2), row("c", m, f64::NAN)];
    let order: Vec<_> = ranked(rows.to_vec()).into_iter().map(|row| (row.method, row.feature, row.rank)).collect();
    let expected = [(c, "b", 1), (c, "a", 2), (m, "a", 1), (m, "b", 2)];
    assert_eq!(order, expected.map(|(method, feature, rank)| (method.to_string(), feature.to_string(), rank)));
}
