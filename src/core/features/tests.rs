use super::*;
use crate::artifact::Artifact;
use crate::error::ErrorKind;
use crate::events::{Column, Events, NULL, Report, Values, Vectors};
use crate::source::{Clock, Field, FieldKind, KeyType, SourceSchema, ValueType};
use crate::spec::ModelSpec;
use serde_json::json;

fn schema() -> SourceSchema {
    let field = |name: &str, kind, value, min_count| Field { min_count, ..Field::new(name, kind, value) };
    SourceSchema::new(
        KeyType::Integer,
        Clock::Number,
        vec![
            field("shop", FieldKind::Category, ValueType::Integer, 1),
            field("item", FieldKind::Category, ValueType::Text, 2),
            field("price", FieldKind::Number, ValueType::Number, 1),
        ],
    )
}

/// Two entities of three events and one. `b` occurs three times, `a` twice, `rare` once.
fn events() -> Events {
    Events {
        keys: Keys::Integer(vec![1, 2, 3]),
        offsets: vec![0, 3, 6, 7],
        time: vec![0.0, 1.0, 5.0, 2.0, 3.0, 4.0, 1.0],
        columns: vec![
            Column::Category { codes: vec![0, 1, 0, 0, 0, 0, 0], values: Values::Integer(vec![20, 10]) },
            Column::Category {
                codes: vec![1, 2, 0, 1, 2, NULL, 2],
                values: Values::Text(["rare", "a", "b"].iter().collect()),
            },
            Column::Number(vec![1.0, 3.0, 99.0, 1.0, 3.0, 99.0, f32::NAN]),
        ],
        report: Report::default(),
    }
}

const TRAIN_END: [usize; 3] = [2, 5, 7];

fn spec(kind: &str) -> ModelSpec {
    ModelSpec::parse(
        &json!({"encoder": {"kind": kind}, "objective": {"kind": "next_event", "field": "item"}}),
        &schema(),
    )
    .unwrap()
}

fn fitted() -> Fitted {
    Fitted::fit(&events(), &schema(), &spec("gru"), &TRAIN_END).unwrap()
}

fn category(input: &Input) -> (&str, &[u32], usize) {
    match input {
        Input::Category { name, codes, size } => (name, codes, *size),
        other => panic!("{} is no category of the source", other.name()),
    }
}

fn refused(change: impl Fn(&mut Events)) -> String {
    let mut events = events();
    change(&mut events);
    let error = check_events(&events, 2).err().or_else(|| known_targets(&events, &schema(), 1).err()).unwrap();
    assert_eq!(error.kind, ErrorKind::InsufficientData);
    assert!(error.hint.is_some());
    error.message
}

#[test]
fn fitting_and_replay_by_hand() {
    let fitted = fitted();
    assert_eq!(fitted.items().unwrap().values, Values::Text(["b", "a"].iter().collect()));
    assert_eq!(fitted.items().unwrap().counts, [3, 2]);
    assert_eq!(fitted.notes(), [""; 0]);
    let encoded = fitted.encode(events()).unwrap();
    assert_eq!(encoded.inputs.iter().map(Input::name).collect::<Vec<_>>(), ["shop", "item", "price"]);
    assert_eq!(category(&encoded.inputs[0]), ("shop", &[2, 3, 2, 2, 2, 2, 2][..], 4));
    assert_eq!(encoded.target_codes(), [3, 2, UNKNOWN, 3, 2, MISSING, 2]);
    assert_eq!(encoded.items(), 2);
    let Input::Number { values, .. } = &encoded.inputs[2] else { panic!("price is a number") };
    assert_eq!(values[..6], [-1.0, 1.0, 97.0, -1.0, 1.0, 97.0]);
    assert!(values[6].is_nan());
    assert_eq!((encoded.first(1), encoded.last(1), encoded.entities()), (2.0, 4.0, 3));
}

#[test]
fn known_targets_are_those_that_get_a_code() {
    let (events, schema) = (events(), schema());
    let known = known_targets(&events, &schema, 1).unwrap();
    let encoded = fitted().encode(events.clone()).unwrap();
    for (event, &code) in encoded.target_codes().iter().enumerate() {
        assert_eq!(known(event), code >= FIRST, "event {event}");
    }
}

#[test]
fn a_fit_that_goes_on_keeps_codes_and_scales_and_appends_what_is_new() {
    let mut later = events();
    later.columns[0] = Column::Category { codes: vec![1, 1, 0, 0, 2, 2, 2], values: Values::Integer(vec![10, 7, 20]) };
    later.columns[1] = Column::Category {
        codes: vec![1, 0, 0, 1, 2, NULL, 0],
        values: Values::Text(["new", "rare", "b"].iter().collect()),
    };
    let (fitted, extended) = (fitted(), fitted().extended(&later, &schema()).unwrap());
    let FieldState::Category(shops) = &extended.fields[0].state else { panic!("shops are a category") };
    assert_eq!((&shops.values, shops.counts.as_slice()), (&Values::Integer(vec![20, 10, 7]), &[3, 2, 2][..]));
    // "a" has gone, "b" is rare by now, and "rare" no longer is.
    let items = extended.items().unwrap();
    assert_eq!(items.values, Values::Text(["b", "a", "new", "rare"].iter().collect()));
    assert_eq!(items.counts, [1, 0, 3, 2]);
    assert_eq!((&extended.fields[2], &extended.time), (&fitted.fields[2], &fitted.time));
    let codes = extended.codes_in(&fitted, "item").unwrap();
    assert_eq!(codes, [Some(0), Some(1), Some(2), Some(3), None, None]);
    assert_eq!(fitted.codes_in(&extended, "shop").unwrap(), [Some(0), Some(1), Some(2), Some(3)]);
    assert_eq!(extended.codes_in(&fitted, "price"), None);
}

#[test]
fn later_events_get_the_codes_of_training() {
    let mut later = events();
    later.columns[0] = Column::Category { codes: vec![0, 1, 2, 2, 2, 2, 2], values: Values::Integer(vec![5, 10, 20]) };
    let encoded = fitted().encode(later).unwrap();
    assert_eq!(category(&encoded.inputs[0]).1, [UNKNOWN, 3, 2, 2, 2, 2, 2]);
}

#[test]
fn outliers_are_drawn_in_to_what_training_saw_and_counted() {
    let mut schema = schema();
    schema.cleaning.winsorize = 0.25;
    // Training saw 1, 3, 1 and 3 of the prices; the others are 99.
    let fitted = Fitted::fit(&events(), &schema, &spec("gru"), &TRAIN_END).unwrap();
    assert_eq!(fitted.changes(&events()), ["2 numbers of field \"price\" were drawn in to 1 to 3."]);
    let encoded = fitted.encode(events()).unwrap();
    let Input::Number { values, .. } = &encoded.inputs[2] else { panic!("price is a number") };
    assert_eq!(values[..6], [-1.0, 1.0, 1.0, -1.0, 1.0, 1.0]);
    assert!(values[6].is_nan());
}

#[test]
fn fields_that_say_nothing_are_left_out() {
    let mut events = events();
    events.columns[0] = Column::Category { codes: vec![0; 7], values: Values::Integer(vec![20]) };
    events.columns[2] = Column::Number(vec![f32::NAN; 7]);
    let fitted = Fitted::fit(&events, &schema(), &spec("gru"), &TRAIN_END).unwrap();
    assert_eq!(
        fitted.notes(),
        ["Field \"shop\" is left out: it has only one value.", "Field \"price\" is left out: it is all NULL."]
    );
    let encoded = fitted.encode(events.clone()).unwrap();
    assert_eq!((encoded.inputs.len(), encoded.target), (1, Some(0)));

    events.columns[0] = Column::Category { codes: vec![NULL; 7], values: Values::Integer(vec![]) };
    events.columns[2] = Column::Number(vec![4.0; 7]);
    let fitted = Fitted::fit(&events, &schema(), &spec("gru"), &TRAIN_END).unwrap();
    assert_eq!(
        fitted.notes(),
        ["Field \"shop\" is left out: it is all NULL.", "Field \"price\" is left out: it has only one value."]
    );
}

#[test]
fn one_value_and_nulls_still_say_something() {
    let mut events = events();
    events.columns[0] = Column::Category { codes: vec![0, NULL, 0, 0, 0, 0, 0], values: Values::Integer(vec![20]) };
    events.columns[2] = Column::Number(vec![4.0, f32::NAN, 4.0, 4.0, 4.0, 4.0, 4.0]);
    let fitted = Fitted::fit(&events, &schema(), &spec("gru"), &TRAIN_END).unwrap();
    assert_eq!(fitted.notes(), [""; 0]);
}

#[test]
fn gaps_follow_the_specification() {
    let mut events = events();
    events.time = vec![0.0, 1.0, 5.0, 2.0, 6.0, 7.0, 1.0];
    let gap = |kind| Fitted::fit(&events, &schema(), &spec(kind), &TRAIN_END).unwrap().time.gap.is_some();
    assert!(gap("gru") && gap("transformer"));
    assert!(!gap("transitions"));
}

#[test]
fn an_artifact_brings_it_back() {
    let mut fitted = fitted();
    fitted.cutoffs = Some((1.5, f64::MAX));
    fitted.fields[0].state = FieldState::Dropped("has only one value".into());
    let mut artifact = Artifact::new();
    fitted.write(&mut artifact).unwrap();
    let artifact = Artifact::from_bytes(&artifact.to_bytes().unwrap()).unwrap();
    assert_eq!(Fitted::read(&artifact).unwrap(), fitted);
    let mut damaged = artifact.clone();
    damaged.put_i64("field.1.counts", &[1]);
    assert_eq!(Fitted::read(&damaged).unwrap_err().kind, ErrorKind::InvalidData);
    assert_eq!(Fitted::read(&Artifact::new()).unwrap_err().kind, ErrorKind::InvalidData);
}

#[test]
fn too_little_data_says_so() {
    let none = |events: &mut Events| {
        events.time.clear();
        events.offsets = vec![0];
    };
    assert_eq!(refused(none), "source has no events");
    assert_eq!(refused(|events| events.offsets = (0..8).collect()), "no entity has two events");
    let nulls = |events: &mut Events| {
        events.columns[1] = Column::Category { codes: vec![NULL; 7], values: Values::Integer(vec![]) };
    };
    assert_eq!(refused(nulls), "target field \"item\" is all NULL");
    let one = |events: &mut Events| {
        events.columns[1] =
            Column::Category { codes: vec![0, 0, 0, 1, NULL, 0, 0], values: Values::Integer(vec![4, 5]) };
    };
    assert_eq!(refused(one), "target field \"item\" has fewer than two values");
}

#[test]
fn reserved_names_and_changed_sources_are_refused() {
    let mut reserved = schema();
    reserved.fields[0].name = "time.gap".into();
    let error = Fitted::fit(&events(), &reserved, &spec("gru"), &TRAIN_END).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidParameter);
    let mut changed = events();
    changed.columns.swap(1, 2);
    assert_eq!(fitted().encode(changed).unwrap_err().kind, ErrorKind::InvalidData);
    let mut fewer = events();
    fewer.columns.pop();
    assert_eq!(fitted().encode(fewer).unwrap_err().kind, ErrorKind::InvalidData);
}

/// Reviews and tags beside the category that is predicted.
fn lists() -> (Events, SourceSchema) {
    let field = |name: &str, kind| Field { min_count: 2, ..Field::new(name, kind, ValueType::Text) };
    let text = |codes: [u32; 7], values: &[&str]| Column::Category {
        codes: codes.to_vec(),
        values: Values::Text(values.iter().collect()),
    };
    let mut events = events();
    events.columns = vec![
        text([0, NULL, 1, 1, 1, 0, 2], &["很好吃", "ok 👍", ""]),
        text([1, 2, 0, 1, 2, NULL, 2], &["rare", "a", "b"]),
        text([0, 1, 0, 2, NULL, 1, 1], &[r#"["x","y"]"#, r#"["x"]"#, r#"["z"]"#]),
    ];
    let schema = SourceSchema {
        fields: vec![
            field("review", FieldKind::Text),
            field("item", FieldKind::Category),
            field("tags", FieldKind::Tags),
        ],
        ..schema()
    };
    (events, schema)
}

#[test]
fn times_and_vectors_are_seen_as_training_saw_them() {
    let (mut events, day) = (events(), 86_400_000_000);
    let mut looks = Vectors::new(2);
    [[1.0, 0.0], [3.0, 0.0], [9.0, 1.0]].iter().for_each(|row| looks.push(row));
    events.columns[0] =
        Column::Category { codes: vec![0, 1, 0, 1, NULL, 0, 0], values: Values::Integer(vec![day, -day]) };
    events.columns[2] = Column::Vector { codes: vec![0, 1, 2, 0, 1, 2, NULL], rows: looks };
    let schema = SourceSchema {
        fields: vec![
            Field::new("due", FieldKind::Time, ValueType::Integer),
            schema().fields.swap_remove(1),
            Field::new("look", FieldKind::Vector, ValueType::Vector(2)),
        ],
        ..schema()
    };
    let fitted = Fitted::fit(&events, &schema, &spec("gru"), &TRAIN_END).unwrap();
    assert!(matches!(&fitted.fields[0].state, FieldState::Time(moments) if matches!(moments.scale, Scale::Log { .. })));
    let scale = VectorScale { mean: vec![2.0, 0.0], std: vec![1.0, 1.0] };
    assert_eq!(fitted.fields[2].state, FieldState::Vector(scale));
    let mut artifact = Artifact::new();
    fitted.write(&mut artifact).unwrap();
    let fitted = Fitted::read(&Artifact::from_bytes(&artifact.to_bytes().unwrap()).unwrap()).unwrap();
    let encoded = fitted.encode(events.clone()).unwrap();
    let Input::Number { values, .. } = &encoded.inputs[0] else { panic!("a time is a number") };
    assert!(values[4].is_nan() && values[0] == -values[1] && values[0] > 0.0);
    let Input::Vector { codes, rows, .. } = &encoded.inputs[2] else { panic!("no vector") };
    assert_eq!(codes, &[1, 2, 3, 1, 2, 3, MISSING]);
    assert_eq!(rows.rows().collect::<Vec<_>>(), [[-1.0, 0.0], [1.0, 0.0], [7.0, 1.0]]);
    events.columns[2] = Column::Vector { codes: vec![NULL; 7], rows: Vectors::new(2) };
    let fitted = Fitted::fit(&events, &schema, &spec("gru"), &TRAIN_END).unwrap();
    assert_eq!(fitted.notes(), ["Field \"look\" is left out: it is all NULL."]);
}

#[test]
fn texts_and_tags_become_lists() {
    let (events, schema) = lists();
    let fitted = Fitted::fit(&events, &schema, &spec("gru"), &TRAIN_END).unwrap();
    let encoded = fitted.encode(events).unwrap();
    let list = |input: &Input| match input {
        Input::List { name, codes, lists, size } => {
            let lists = codes.iter().map(|&code| lists.get(code as usize).to_vec()).collect::<Vec<_>>();
            (name.clone(), lists, *size)
        }
        other => panic!("{} has no lists", other.name()),
    };
    let (name, reviews, size) = list(&encoded.inputs[0]);
    let FieldState::Text(texts) = &fitted.fields[0].state else { panic!("review is text") };
    let (tasty, fine, missing) = (texts.list("很好吃"), texts.list("ok 👍"), vec![MISSING]);
    assert!(tasty.len() > 3 && fine.len() > 3 && tasty.iter().all(|code| *code >= FIRST));
    assert_eq!(reviews, [&tasty, &missing, &fine, &fine, &fine, &tasty, &missing].map(Clone::clone));
    assert_eq!((name.as_str(), size), ("review", texts.size()));
    // x has five events, y two, z one.
    let expected = [&[2, 3][..], &[2], &[2, 3], &[UNKNOWN], &[MISSING], &[2], &[2]];
    assert_eq!(list(&encoded.inputs[2]), ("tags".to_string(), expected.map(<[u32]>::to_vec).to_vec(), 4));
}

#[test]
fn an_artifact_brings_texts_and_tags_back() {
    let (events, schema) = lists();
    let fitted = Fitted::fit(&events, &schema, &spec("gru"), &TRAIN_END).unwrap();
    let mut artifact = Artifact::new();
    fitted.write(&mut artifact).unwrap();
    let mut artifact = Artifact::from_bytes(&artifact.to_bytes().unwrap()).unwrap();
    assert_eq!(Fitted::read(&artifact).unwrap(), fitted);
    let mut damaged = artifact.clone();
    damaged.put_u32("field.0.buckets", &[2, 1]);
    assert_eq!(Fitted::read(&damaged).unwrap_err().kind, ErrorKind::InvalidData);
    artifact.put_values("field.2.values", &Values::Integer(vec![1, 2]));
    assert_eq!(Fitted::read(&artifact).unwrap_err().kind, ErrorKind::InvalidData);
}

#[test]
fn texts_and_tags_that_say_nothing_are_left_out() {
    let (mut events, mut schema) = lists();
    schema.fields[2].min_count = 9;
    events.columns[0] = Column::Category { codes: vec![NULL; 7], values: Values::Text(Default::default()) };
    let fitted = Fitted::fit(&events, &schema, &spec("gru"), &TRAIN_END).unwrap();
    assert_eq!(
        fitted.notes(),
        [
            "Field \"review\" is left out: it is all NULL.",
            "Field \"tags\" is left out: it has no tag that min_count events have."
        ]
    );
    let broken = Values::Text(["{x,y}"].iter().collect());
    events.columns[2] = Column::Category { codes: vec![0; 7], values: broken };
    assert_eq!(Fitted::fit(&events, &schema, &spec("gru"), &TRAIN_END).unwrap_err().kind, ErrorKind::InvalidData);
}

fn rated() -> ModelSpec {
    let objective = json!({"kind": "ratings", "field": "item", "value": "price"});
    ModelSpec::parse(&json!({"encoder": {"kind": "knn"}, "objective": objective}), &schema()).unwrap()
}

#[test]
fn ratings_stay_as_they_are_and_are_no_input() {
    let stars = Fitted::fit(&events(), &schema(), &rated(), &TRAIN_END).unwrap();
    let mut artifact = Artifact::new();
    stars.write(&mut artifact).unwrap();
    assert_eq!(Fitted::read(&artifact).unwrap(), stars);
    let encoded = stars.encode(events()).unwrap();
    assert_eq!(encoded.ratings[..6], [1.0, 3.0, 99.0, 1.0, 3.0, 99.0]);
    assert!(encoded.ratings[6].is_nan() && encoded.unrated() == 1);
    assert_eq!(encoded.inputs.iter().map(Input::name).collect::<Vec<_>>(), ["shop", "item"]);
    assert!(fitted().encode(events()).unwrap().ratings.is_empty());
    let known = known_ratings(&events(), &schema(), &rated()).map(|known| (0..7).map(known).collect::<Vec<_>>());
    assert_eq!(known.unwrap(), [true, true, true, true, true, true, false]);
    assert!(known_ratings(&events(), &schema(), &spec("gru")).is_ok_and(|known| (0..7).all(known)));
}

#[test]
fn ratings_that_do_not_differ_are_refused() {
    for (ratings, message) in [
        (vec![f32::NAN; 7], "rating field \"price\" is all NULL"),
        (vec![4.0, f32::NAN, 4.0, 4.0, 4.0, 4.0, 4.0], "rating field \"price\" has only one value"),
    ] {
        let mut events = events();
        events.columns[2] = Column::Number(ratings);
        let error = known_ratings(&events, &schema(), &rated()).err().unwrap();
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::InsufficientData, message));
    }
}
