use super::*;
use crate::events::{Column, Keys, NULL, Report, Values};
use crate::source::{Clock, Field, FieldKind, KeyType, SourceSchema, ValueType};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const ENTITIES: usize = 100;
const EVENTS: usize = 20;

/// A hundred entities with an event a day for twenty days, of which the last ten are current. `value`: of an event's entity
/// and day.
fn events(columns: Vec<Column>) -> Events {
    let time = (0..ENTITIES * EVENTS).map(|event| (event % EVENTS) as f64).collect();
    let offsets = (0..=ENTITIES).map(|entity| entity * EVENTS).collect();
    let keys = Keys::Integer((0..ENTITIES as i64).collect());
    Events { keys, offsets, time, columns, report: Report::default() }
}

fn schema(fields: &[(&str, FieldKind)]) -> SourceSchema {
    let value = |kind| match kind {
        FieldKind::Number => ValueType::Number,
        FieldKind::Category | FieldKind::Time => ValueType::Integer,
        _ => ValueType::Text,
    };
    let fields = fields.iter().map(|&(name, kind)| Field::new(name, kind, value(kind))).collect();
    SourceSchema::new(KeyType::Integer, Clock::Number, fields)
}

fn found(events: &Events, schema: &SourceSchema) -> Vec<Shift> {
    fields(&Parts::new(events, Border::From(10.0)), schema, &Bounds::default(), 2).unwrap()
}

fn drifted(shifts: &[Shift]) -> Vec<(&str, &str)> {
    shifts
        .iter()
        .filter(|shift| shift.has_drifted())
        .map(|shift| (shift.name.as_str(), shift.measure.as_str()))
        .collect()
}

fn is_current(event: usize) -> bool {
    event % EVENTS >= 10
}

#[test]
fn events_of_one_distribution_do_not_drift_and_those_of_two_do() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut drawn = |of: fn(usize, f64) -> f64| -> Vec<f64> {
        (0..ENTITIES * EVENTS).map(|event| of(event, rng.random::<f64>())).collect()
    };
    let codes = |numbers: Vec<f64>| Column::Category {
        codes: numbers.into_iter().map(|number| if number < 0.0 { NULL } else { number as u32 }).collect(),
        values: Values::Integer((0..100).collect()),
    };
    let numbers = |numbers: Vec<f64>| Column::Number(numbers.into_iter().map(|number| number as f32).collect());
    let columns = vec![
        codes(drawn(|_, x| (x * x * 100.0).floor())),
        codes(drawn(|event, x| if is_current(event) { (x * 10.0).floor() } else { (x * x * 10.0).floor() })),
        codes(drawn(|event, x| if is_current(event) && x < 0.3 { -1.0 } else { (x * 9.0).floor() })),
        numbers(drawn(|_, x| x.ln())),
        numbers(drawn(|event, x| x + if is_current(event) { 0.5 } else { 0.0 })),
        numbers(drawn(|event, _| if is_current(event) { 2.0 } else { 1.0 })),
    ];
    let names = [
        ("page", FieldKind::Category),
        ("item", FieldKind::Category),
        ("brand", FieldKind::Category),
        ("price", FieldKind::Number),
        ("fee", FieldKind::Number),
        ("currency", FieldKind::Number),
    ];
    let shifts = found(&events(columns), &schema(&names));
    assert_eq!(
        drifted(&shifts),
        [
            ("currency", "psi"),
            ("fee", "psi"),
            ("brand", "psi"),
            ("item", "psi"),
            ("currency", "js"),
            ("fee", "js"),
            ("brand", "js"),
            ("item", "js")
        ]
    );
    let page = shifts.iter().find(|shift| shift.name == "page" && shift.measure == "psi").unwrap();
    assert_eq!((page.what.as_str(), page.reference, page.current), ("field", 1000, 1000));
    assert!(page.value > 0.0 && page.threshold == Some(0.2), "{page:?}");
    // The two have no value in common.
    let currency = shifts.iter().find(|shift| shift.name == "currency" && shift.measure == "js").unwrap();
    assert_eq!(currency.value, 1.0);
}

#[test]
fn words_and_tags_drift_by_how_often_they_occur() {
    let column = |values: [&str; 2]| Column::Category {
        codes: (0..ENTITIES * EVENTS).map(|event| u32::from(is_current(event))).collect(),
        values: Values::Text(values.iter().collect()),
    };
    let columns = vec![
        column(["red shoes", "green apples"]),
        column(["same words", "words same"]),
        column([r#"["a","b"]"#, r#"["c"]"#]),
        column([r#"["a","b"]"#, r#"["b","a"]"#]),
    ];
    let names =
        [("text", FieldKind::Text), ("same", FieldKind::Text), ("tags", FieldKind::Tags), ("tagged", FieldKind::Tags)];
    let shifts = found(&events(columns), &schema(&names));
    let js = |name: &str| shifts.iter().find(|shift| shift.name == name && shift.measure == "js").unwrap().value;
    assert!(js("text") > 0.5 && js("same") < 0.1, "{shifts:?}");
    assert!(js("tags") > 1.0 - 1e-9 && js("tagged") < 1e-9, "{shifts:?}");
    // An event counts once, however many words it has.
    assert!(shifts.iter().all(|shift| (shift.reference, shift.current) == (1000, 1000) || shift.what == "activity"));
}

#[test]
fn who_becomes_more_active_has_other_gaps_and_more_events() {
    let mut events = events(Vec::new());
    let steady = found(&events, &schema(&[]));
    assert_eq!((drifted(&steady), steady.len()), (Vec::new(), 4));
    assert!(steady.iter().all(|shift| shift.what == "activity" && shift.value == 0.0), "{steady:?}");
    // Half as many events before the border: twice the time between them.
    let kept: Vec<usize> = (0..events.len()).filter(|event| event % EVENTS >= 10 || event % 2 == 0).collect();
    events.time = kept.iter().map(|&event| events.time[event]).collect();
    events.offsets = (0..=ENTITIES).map(|entity| entity * 15).collect();
    let shifts = found(&events, &schema(&[]));
    assert_eq!(drifted(&shifts).len(), 4, "{shifts:?}");
    // The reference is shorter than the current part: what is a number of events there says nothing.
    let short = fields(&Parts::new(&events, Border::After(4.0)), &schema(&[]), &Bounds::default(), 1).unwrap();
    assert!(short.iter().all(|shift| shift.name == "gap") && short.len() == 2, "{short:?}");
}

#[test]
fn an_event_at_the_border_is_current_only_where_it_begins_there() {
    let events = events(Vec::new());
    assert_eq!(Parts::new(&events, Border::From(10.0)).sizes(), [1000, 1000]);
    assert_eq!(Parts::new(&events, Border::After(10.0)).sizes(), [1100, 900]);
    let parts = Parts::new(&events, Border::After(18.0));
    assert_eq!((parts.of(1, REFERENCE), parts.of(1, CURRENT)), (20..39, 39..40));
    assert_eq!(parts.events_of(CURRENT).take(2).collect::<Vec<_>>(), [19, 39]);
    assert_eq!(Border::After(0.0).text(Clock::Date), "after 1970-01-01T00:00:00Z");
}

#[test]
fn bounds_are_read_and_nonsense_is_refused() {
    let only = Bounds { psi: Some(0.1), js: None, energy: None, decay: None };
    assert_eq!(Bounds::parse(&json!({"psi": 0.1})).unwrap(), only);
    assert!(!only.need_version() && Bounds::default().need_version());
    for wrong in
        [json!({}), json!({"psi": -0.1}), json!({"psi": "much"}), json!({"mood": 1}), json!(0.2), json!({"js": null})]
    {
        let error = Bounds::parse(&wrong).unwrap_err();
        assert!(error.detail.is_some() && error.hint.is_some(), "{wrong}: {error}");
    }
}

#[test]
fn a_bound_is_raised_to_what_chance_gives() {
    // Four entities with ten events of one value each in either part; two have the first value, then one.
    let codes = (0..4 * EVENTS).map(|event| u32::from(event / EVENTS + usize::from(is_current(event)) >= 2)).collect();
    let column = Column::Category { codes, values: Values::Integer(vec![1, 2]) };
    let whole = events(vec![column]);
    let offsets = (0..=4).map(|entity| entity * EVENTS).collect();
    let few =
        Events { keys: Keys::Integer((0..4).collect()), offsets, time: whole.time[..4 * EVENTS].to_vec(), ..whole };
    let shifts = found(&few, &schema(&[("page", FieldKind::Category)]));
    let page = shifts.iter().find(|shift| shift.name == "page" && shift.measure == "psi").unwrap();
    assert!(page.value > 0.2 && page.threshold.unwrap() > 1.0 && !page.has_drifted(), "{page:?}");
}

#[test]
fn vectors_are_of_different_entities_that_were_active_before_and_after_the_border() {
    let mut events = events(Vec::new());
    // The second entity is silent from the tenth day on, the third before it, the fourth from the second on.
    events.time[EVENTS + 10..2 * EVENTS].fill(9.0);
    events.time[2 * EVENTS..2 * EVENTS + 10].fill(10.0);
    events.time[3 * EVENTS + 2..4 * EVENTS].fill(2.0);
    let border = Border::From(15.0);
    let [before, now] = histories(&Parts::new(&events, border), Clock::Number, 1);
    let entities = |histories: &[Range<usize>]| histories.iter().map(|range| range.start / EVENTS).collect::<Vec<_>>();
    let (was, is) = (entities(&before), entities(&now));
    assert!(was.iter().all(|entity| !is.contains(entity)) && was.len() + is.len() >= 97);
    assert!((30..70).contains(&was.len()), "{was:?}");
    assert!(before.iter().all(|range| range.len() == 15) && now.iter().all(|range| range.len() == EVENTS));
    assert!([1, 3].iter().all(|silent| !is.contains(silent) && !was.contains(silent)));
    assert_eq!(histories(&Parts::new(&events, border), Clock::Number, 1), [before, now]);
}
