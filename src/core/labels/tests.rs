use super::*;
use crate::events::Report;
use crate::source::{Clock, Field, FieldKind, KeyType, ValueType};

/// Entity 1: events at 0, 10, 20, 30; entity 2: at 5, 25; entity 4: at 12. Actions view, buy.
fn events() -> Events {
    Events {
        keys: Keys::Integer(vec![1, 2, 4]),
        offsets: vec![0, 4, 6, 7],
        time: vec![0.0, 10.0, 20.0, 30.0, 5.0, 25.0, 12.0],
        columns: vec![Column::Category {
            codes: vec![0, 1, 0, 1, 0, 0, 1],
            values: Values::Text(["view", "buy"].iter().collect()),
        }],
        report: Report::default(),
    }
}

fn schema() -> SourceSchema {
    let action = Field::new("action", FieldKind::Category, ValueType::Text);
    SourceSchema::new(KeyType::Integer, Clock::Number, vec![action])
}

fn table(keys: Vec<i64>, offsets: Vec<usize>, time: Vec<f64>, column: Column) -> Events {
    Events { keys: Keys::Integer(keys), offsets, time, columns: vec![column], report: Report::default() }
}

fn of_table(timed: bool) -> Label {
    let origin = LabelOrigin::Table { value: ValueType::Text, timed };
    Label { name: "tier".into(), kind: LabelKind::Class, origin }
}

fn tiers(codes: Vec<u32>) -> Column {
    Column::Category { codes, values: Values::Text(["silver", "gold", "never"].iter().collect()) }
}

#[test]
fn a_table_without_times_labels_whole_histories() {
    // Entity 3 has no events, 4's label is NULL, 2 has two.
    let table = table(vec![1, 2, 3, 4], vec![0, 1, 3, 4, 5], vec![0.0; 5], tiers(vec![0, 1, 0, 1, NULL]));
    let examples = Examples::new(&of_table(false), &schema(), &events(), Some(&table), 1).unwrap();
    assert_eq!(examples.classes, Some(Values::Text(["gold", "silver"].iter().collect())));
    let row = |entity, end, class| Example { entity, end, at: f64::INFINITY, truth: Truth::Class(class) };
    assert_eq!(examples.rows, [row(0, 4, 1), row(1, 6, 0)]);
    assert_eq!(examples.notes.len(), 3);
    assert_eq!(examples.notes[0], "1 rows of label \"tier\" were set aside: they are of entities without events.");
}

#[test]
fn a_timed_label_sees_nothing_from_its_own_time_on() {
    let table = table(vec![1, 2], vec![0, 3, 4], vec![0.0, 20.0, 31.0, 25.5], tiers(vec![0, 1, 0, 0]));
    let examples = Examples::new(&of_table(true), &schema(), &events(), Some(&table), 1).unwrap();
    let ends: Vec<(usize, usize, f64)> = examples.rows.iter().map(|row| (row.entity, row.end, row.at)).collect();
    assert_eq!(ends, [(0, 2, 20.0), (0, 4, 31.0), (1, 6, 25.5)]);
    assert_eq!(
        examples.notes,
        ["1 rows of label \"tier\" were set aside: they are from before the entity's first event."]
    );
}

#[test]
fn upcoming_events_are_asked_for_at_cut_offs_whose_answers_do_not_overlap() {
    let upcoming = Upcoming { event: [("action".into(), "buy".into())].into(), absent: false, within: 10.0 };
    let label = Label { name: "buys".into(), kind: LabelKind::Class, origin: LabelOrigin::Events(upcoming.clone()) };
    let examples = Examples::new(&label, &schema(), &events(), None, 1).unwrap();
    // Cut-offs 10 and 20, as the newest event is of 30 and the oldest of 0. After 20 entity 1 buys at 30.
    let rows: Vec<_> = examples.rows.iter().map(|row| (row.entity, row.end, row.at, row.truth)).collect();
    assert_eq!(
        rows,
        [
            (0, 2, 10.0, Truth::Class(0)),
            (0, 3, 20.0, Truth::Class(1)),
            (1, 5, 10.0, Truth::Class(0)),
            (1, 5, 20.0, Truth::Class(0)),
            (2, 7, 20.0, Truth::Class(0)),
        ]
    );
    let churn = Upcoming { event: Default::default(), absent: true, within: 10.0 };
    let label = Label { name: "churn".into(), kind: LabelKind::Class, origin: LabelOrigin::Events(churn) };
    let examples = Examples::new(&label, &schema(), &events(), None, 1).unwrap();
    let classes: Vec<_> = examples.rows.iter().map(|row| row.truth).collect();
    // Entity 1 has events in both periods, entity 2 only in the second, entity 4 not in the second.
    assert_eq!(classes, [0, 0, 1, 0, 1].map(Truth::Class));
    let training = Training::default();
    assert_eq!(examples.cutoffs(&training), Some((10.0, 20.0)));
    let parts = examples.parts(&events().keys, &training, Some((10.0, 20.0)));
    assert_eq!((parts.train, parts.valid, parts.test), (vec![], vec![0, 2], vec![1, 3, 4]));
}

#[test]
fn too_few_examples_of_a_class_are_an_error_that_names_it() {
    let table = table(vec![1, 2], vec![0, 1, 2], vec![0.0; 2], tiers(vec![0, 1]));
    let error = Examples::new(&of_table(false), &schema(), &events(), Some(&table), 2).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InsufficientData);
    assert_eq!(error.message, "class \"gold\" of label \"tier\" has 1 examples, fewer than 2");
    let wrong = Upcoming { event: [("action".into(), "fly".into())].into(), absent: false, within: 10.0 };
    let label = Label { name: "flies".into(), kind: LabelKind::Class, origin: LabelOrigin::Events(wrong) };
    let error = Examples::new(&label, &schema(), &events(), None, 1).unwrap_err();
    assert_eq!(error.message, "label \"flies\": no event has action \"fly\"");
}

/// So many entities with one event each; every third is gold.
fn many(entities: usize) -> (Events, Examples) {
    let events = Events {
        keys: Keys::Integer((0..entities as i64).collect()),
        offsets: (0..=entities).collect(),
        time: vec![0.0; entities],
        columns: vec![Column::Category { codes: vec![0; entities], values: Values::Integer(vec![1]) }],
        report: Report::default(),
    };
    let codes = (0..entities).map(|i| u32::from(i % 3 == 0)).collect();
    let table = table((0..entities as i64).collect(), (0..=entities).collect(), vec![0.0; entities], tiers(codes));
    let examples = Examples::new(&of_table(false), &schema(), &events, Some(&table), 1).unwrap();
    (events, examples)
}

#[test]
fn folds_have_their_share_of_every_class_and_repeat_by_seed() {
    let (events, examples) = many(300);
    let folds = examples.folds(&events.keys, 10, 1);
    assert_eq!(folds, examples.folds(&events.keys, 10, 1));
    assert_ne!(folds, examples.folds(&events.keys, 10, 2));
    for fold in 0..10 {
        let gold = |i: &usize| examples.rows[*i].truth == Truth::Class(0);
        let members: Vec<usize> = (0..300).filter(|&i| folds[i] == fold).collect();
        assert_eq!((members.len(), members.iter().filter(|i| gold(i)).count()), (30, 10));
    }
}

#[test]
fn random_parts_are_by_key_so_that_others_change_nothing() {
    let ((few, some), (more, all)) = (many(500), many(1000));
    let training = Training { split: Split::Random, ..Training::default() };
    let before = some.parts(&few.keys, &training, None);
    let after = all.parts(&more.keys, &training, None);
    assert!((30..70).contains(&before.test.len()) && (30..70).contains(&before.valid.len()));
    assert_eq!(before.test, after.test.into_iter().filter(|&i| i < 500).collect::<Vec<_>>());
}

#[test]
fn numbers_are_scaled_by_what_trains_and_come_back() {
    let table = table(vec![1, 2, 4], vec![0, 1, 2, 3], vec![0.0; 3], Column::Number(vec![1.0, 3.0, 100.0]));
    let origin = LabelOrigin::Table { value: ValueType::Number, timed: false };
    let label = Label { name: "spend".into(), kind: LabelKind::Number, origin };
    let examples = Examples::new(&label, &schema(), &events(), Some(&table), 1).unwrap();
    let fitted = examples.fit(&[0, 1], false).unwrap();
    assert_eq!(fitted.scale, (2.0, 1.0));
    assert_eq!(fitted.scaled(Truth::Number(5.0)), 3.0);
    let fitted = examples.fit(&[0, 1, 2], true).unwrap();
    assert!((fitted.unscaled(fitted.scaled(Truth::Number(100.0))) - 100.0).abs() < 1e-3);
}

#[test]
fn a_stored_label_reads_as_it_was_and_refuses_new_classes() {
    let table = table(vec![1, 2], vec![0, 1, 2], vec![0.0; 2], tiers(vec![0, 1]));
    let examples = Examples::new(&of_table(false), &schema(), &events(), Some(&table), 1).unwrap();
    let fitted = vec![examples.fit(&[0, 1], false).unwrap()];
    let mut artifact = Artifact::new();
    FittedLabel::write_all(&fitted, &mut artifact).unwrap();
    assert_eq!(FittedLabel::read_all(&artifact).unwrap(), fitted);
    let later = super::tests::table(vec![1, 2], vec![0, 1, 2], vec![0.0; 2], tiers(vec![2, 0]));
    let mut examples = Examples::new(&of_table(false), &schema(), &events(), Some(&later), 1).unwrap();
    fitted[0].align(&mut examples);
    assert_eq!(examples.rows.iter().map(|row| (row.entity, row.truth)).collect::<Vec<_>>(), [(1, Truth::Class(1))]);
}
