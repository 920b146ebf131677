use super::*;
use crate::cleaning::{Cleaning, Duplicates};
use crate::error::ErrorKind;
use crate::source::{Clock, Field, FieldKind, KeyType, SourceSchema, ValueType};
use arrow_array::{
    Array, ArrayRef, FixedSizeBinaryArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, RecordBatch,
    StringArray,
};
use proptest::prelude::*;
use std::sync::Arc;

fn field(kind: FieldKind, value: ValueType) -> Field {
    Field::new("f", kind, value)
}

fn schema(key: KeyType, clock: Clock) -> SourceSchema {
    let fields = vec![field(FieldKind::Category, ValueType::Text), field(FieldKind::Number, ValueType::Number)];
    SourceSchema::new(key, clock, fields)
}

type Row = (Option<i64>, Option<i64>, Option<&'static str>, Option<f64>);

fn batch(schema: &SourceSchema, rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.1))),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.2))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.3))),
    ];
    RecordBatch::try_new(schema.arrow(), columns).unwrap()
}

fn collect(schema: &SourceSchema, batches: &[RecordBatch]) -> Events {
    let mut collector = Collector::new(schema, None).unwrap();
    batches.iter().for_each(|batch| collector.push(batch).unwrap());
    collector.finish().unwrap()
}

fn texts(events: &Events) -> Vec<Option<&str>> {
    let Column::Category { codes, values: Values::Text(values) } = &events.columns[0] else { panic!("not text") };
    codes.iter().map(|&code| (code != NULL).then(|| values.get(code as usize))).collect()
}

fn numbers(events: &Events) -> Vec<Option<f32>> {
    let Column::Number(numbers) = &events.columns[1] else { panic!("not numbers") };
    numbers.iter().map(|&number| (!number.is_nan()).then_some(number)).collect()
}

const ROWS: [Row; 10] = [
    (Some(7), Some(30), Some("c"), Some(3.0)),
    (Some(-2), Some(10), Some("x"), None),
    (Some(7), Some(10), Some("a"), Some(1.0)),
    (None, Some(10), Some("lost"), Some(9.0)),
    (Some(7), Some(20), None, Some(f64::INFINITY)),
    (Some(7), None, Some("lost"), Some(9.0)),
    (Some(7), Some(10), Some("b"), Some(2.0)),
    (Some(7), Some(i64::MAX), Some("lost"), None),
    (Some(-2), Some(11), Some("a"), Some(1e300)),
    (Some(8), Some(i64::MIN), Some("lost"), None),
];

#[test]
fn events_are_grouped_by_key_and_ordered_by_time() {
    let schema = schema(KeyType::Integer, Clock::Timestamp);
    let events = collect(&schema, &[batch(&schema, &ROWS[..4]), batch(&schema, &[]), batch(&schema, &ROWS[4..])]);
    assert_eq!(events.keys, Keys::Integer(vec![-2, 7]));
    assert_eq!(events.offsets, [0, 2, 6]);
    assert_eq!(events.time, [10.0, 11.0, 10.0, 10.0, 20.0, 30.0]);
    // "a" and "b" are at the same time: their order is a hash's.
    assert_eq!(texts(&events), [Some("x"), Some("a"), Some("b"), Some("a"), None, Some("c")]);
    assert_eq!(numbers(&events), [None, None, Some(2.0), Some(1.0), None, Some(3.0)]);
    let report = Report {
        rows: 10,
        null_entity: 1,
        null_time: 1,
        infinite_time: 2,
        late: 3,
        infinite_numbers: vec![0, 2],
        ..Report::default()
    };
    assert_eq!(events.report, report);
    assert_eq!(report.skipped().iter().map(|(_, rows)| rows).sum::<u64>(), 4);
    assert_eq!((events.oldest(), events.newest()), (Some(10.0), Some(30.0)));
}

#[test]
fn cleaning_sets_aside_what_a_source_calls_a_mistake() {
    let mut schema = schema(KeyType::Integer, Clock::Timestamp);
    let twice: Vec<Row> = ROWS.iter().chain(&ROWS).copied().collect();
    schema.cleaning = Cleaning { duplicates: Duplicates::Drop, earliest: Some(11.0), ..Cleaning::default() };
    let events = collect(&schema, &[batch(&schema, &twice)]);
    assert_eq!((events.offsets.as_slice(), events.time.as_slice()), (&[0, 1, 3][..], &[11.0, 20.0, 30.0][..]));
    assert_eq!(texts(&events), [Some("a"), None, Some("c")]);
    assert_eq!((events.report.early, events.report.future, events.report.duplicates), (6, 0, 3));
    assert_eq!(events.report.skipped().iter().map(|(_, rows)| rows).sum::<u64>(), 8 + 6 + 3);
    schema.cleaning = Cleaning { latest: Some(20.0), ..Cleaning::default() };
    let events = collect(&schema, &[batch(&schema, &twice)]);
    assert_eq!((events.len(), events.report.future, events.report.duplicates), (10, 2, 0));
}

#[test]
fn keys_of_every_type_are_ordered() {
    let text = schema(KeyType::Text, Clock::Number);
    let columns = |keys: ArrayRef, times: Vec<f64>| -> Vec<ArrayRef> {
        let n = times.len();
        vec![
            keys,
            Arc::new(Float64Array::from(times)),
            Arc::new(StringArray::from(vec!["v"; n])),
            Arc::new(Float64Array::from(vec![0.5; n])),
        ]
    };
    let keys = Arc::new(StringArray::from(vec!["it's", "Ä", "", "it's", "x"]));
    let times = vec![2.5, 0.0, 1.0, -1.5, f64::NAN];
    let events = collect(&text, &[RecordBatch::try_new(text.arrow(), columns(keys, times)).unwrap()]);
    assert_eq!(events.keys, Keys::Text(["", "it's", "Ä"].iter().collect()));
    assert_eq!(events.time, [1.0, -1.5, 2.5, 0.0]);
    assert_eq!(events.report.infinite_time, 1);

    let uuid = schema(KeyType::Uuid, Clock::Number);
    let keys = FixedSizeBinaryArray::try_from_iter([[9u8; 16], [1; 16], [9; 16]].iter()).unwrap();
    let events =
        collect(&uuid, &[RecordBatch::try_new(uuid.arrow(), columns(Arc::new(keys), vec![0.0, 1.0, 2.0])).unwrap()]);
    assert_eq!(events.keys, Keys::Uuid(vec![[1; 16], [9; 16]]));
    assert_eq!(events.offsets, [0, 1, 3]);
    assert_eq!(events.keys.arrow(0..2).data_type(), &KeyType::Uuid.arrow());
}

#[test]
fn no_rows_are_no_events() {
    let schema = schema(KeyType::Integer, Clock::Date);
    let events = collect(&schema, &[]);
    assert_eq!((events.len(), events.entities(), events.offsets.as_slice()), (0, 0, &[0][..]));
    assert_eq!((events.newest(), events.fingerprint().len()), (None, 32));
}

#[test]
fn the_fingerprint_sees_values_and_not_the_order_of_entities() {
    let schema = schema(KeyType::Integer, Clock::Timestamp);
    let print = |rows: &[Row]| collect(&schema, &[batch(&schema, rows)]).fingerprint();
    let mut by_entity = ROWS;
    by_entity.sort_by_key(|row| row.0);
    assert_eq!(print(&ROWS), print(&by_entity));
    let changes: [fn(&mut Row); 4] =
        [|row| row.0 = Some(8), |row| row.1 = Some(31), |row| row.2 = Some("d"), |row| row.3 = Some(3.5)];
    for change in changes {
        let mut changed = ROWS;
        change(&mut changed[0]);
        assert_ne!(print(&ROWS), print(&changed));
    }
    assert_ne!(print(&ROWS), print(&ROWS[1..]));
}

#[test]
fn memory_is_limited() {
    let schema = schema(KeyType::Integer, Clock::Timestamp);
    let batch = batch(&schema, &ROWS);
    let mut collector = Collector::new(&schema, Some(2000)).unwrap();
    let error = (0..100).find_map(|_| collector.push(&batch).err()).unwrap();
    assert_eq!(error.kind, ErrorKind::OutOfMemory);
    assert_eq!(error.message, "the events need more memory than persona.engine_memory allows");
    assert!(error.hint.unwrap().contains("persona.engine_memory"));
    assert!(collector.bytes() > 2000);
}

#[test]
fn what_does_not_fit_the_source_is_an_error() {
    let expected = schema(KeyType::Integer, Clock::Timestamp);
    let other = batch(&expected, &ROWS);
    let mut collector = Collector::new(&schema(KeyType::Integer, Clock::Number), None).unwrap();
    assert_eq!(collector.push(&other).unwrap_err().kind, ErrorKind::Protocol);
    for (kind, value) in [(FieldKind::Category, ValueType::Number), (FieldKind::Number, ValueType::Text)] {
        let wrong = SourceSchema { fields: vec![field(kind, value)], ..expected.clone() };
        let error = Collector::new(&wrong, None).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Unsupported);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The same events as by sorting rows, whatever the order, the batches and the NULLs; ties in any order.
    #[test]
    fn sequences_are_the_sorted_rows(
        rows in prop::collection::vec((prop::option::weighted(0.9, -3i64..4), prop::option::weighted(0.9, 0i64..6), 0usize..4), 0..80),
        size in 1usize..20,
    ) {
        let schema = schema(KeyType::Integer, Clock::Timestamp);
        let words = [None, Some("a"), Some("b"), Some("c")];
        let rows: Vec<Row> = rows.iter().enumerate().map(|(i, row)| (row.0, row.1, words[row.2], Some(i as f64))).collect();
        let batches: Vec<_> = rows.chunks(size).map(|rows| batch(&schema, rows)).collect();
        let events = collect(&schema, &batches);
        let mut sorted = rows.clone();
        sorted.retain(|row| row.0.is_some() && row.1.is_some());
        sorted.sort_by_key(|row| (row.0, row.1));
        prop_assert_eq!(&events.time, &sorted.iter().map(|row| row.1.unwrap() as f64).collect::<Vec<_>>());
        let mut rows: Vec<_> = events.offsets.windows(2).enumerate()
            .flat_map(|(entity, pair)| (pair[0]..pair[1]).map(move |row| (entity, row)))
            .map(|(entity, row)| (entity, events.time[row], numbers(&events)[row], texts(&events)[row]))
            .collect();
        rows.sort_by(|a, b| a.partial_cmp(b).unwrap());
        prop_assert_eq!(rows.iter().map(|row| row.3).collect::<Vec<_>>(), sorted.iter().map(|row| row.2).collect::<Vec<_>>());
        prop_assert_eq!(rows.iter().map(|row| row.2).collect::<Vec<_>>(), sorted.iter().map(|row| row.3.map(|x| x as f32)).collect::<Vec<_>>());
        let Keys::Integer(keys) = &events.keys else { panic!("not integers") };
        for (key, pair) in keys.iter().zip(events.offsets.windows(2)) {
            prop_assert!(pair[0] < pair[1]);
            prop_assert!(sorted[pair[0]..pair[1]].iter().all(|row| row.0 == Some(*key)));
        }
    }
}

/// Lines of many receipts, each in the order of its items, as shops store them.
fn receipts() -> Vec<Row> {
    const ITEMS: [&str; 4] = ["a", "b", "c", "d"];
    let line = |receipt: i64, i: usize| (Some(receipt % 5), Some(receipt), Some(ITEMS[i]), Some(i as f64));
    (0..200).flat_map(|receipt| (0..4).map(move |i| line(receipt, i))).collect()
}

#[test]
fn the_order_of_simultaneous_events_does_not_depend_on_storage() {
    let schema = schema(KeyType::Integer, Clock::Timestamp);
    let stored = receipts();
    let reversed: Vec<Row> = stored.iter().rev().copied().collect();
    let (a, b) = (collect(&schema, &[batch(&schema, &stored)]), collect(&schema, &[batch(&schema, &reversed)]));
    assert_eq!((&a.time, texts(&a), numbers(&a)), (&b.time, texts(&b), numbers(&b)));
    assert_eq!(a.fingerprint(), b.fingerprint());
}

#[test]
fn simultaneous_events_are_in_no_order_that_could_be_learned() {
    let schema = schema(KeyType::Integer, Clock::Timestamp);
    let events = collect(&schema, &[batch(&schema, &receipts())]);
    let (texts, numbers) = (texts(&events), numbers(&events));
    let ascending =
        texts.windows(2).zip(events.time.windows(2)).filter(|(text, time)| time[0] == time[1] && text[0] < text[1]);
    // 600 pairs of neighbours on a receipt: all were ascending, half of them are now.
    assert!((240..360).contains(&ascending.count()));
    for (text, number) in texts.iter().zip(numbers) {
        assert_eq!(text.map(|text| text.as_bytes()[0] - b'a'), number.map(|number| number as u8), "a row was torn");
    }
}

fn on_threads(schema: &SourceSchema, batches: &[RecordBatch], threads: usize) -> Events {
    let mut collector = Collector::new(schema, None).unwrap().with_threads(threads);
    batches.iter().for_each(|batch| collector.push(batch).unwrap());
    collector.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Rows in time order (`step` 1), late ones, ties and NULLs.
    #[test]
    fn threads_do_not_change_the_events(
        rows in prop::collection::vec((prop::option::weighted(0.9, -3i64..4), 0i64..9, 0usize..4), 0..200),
        step in 0i64..2,
    ) {
        let schema = schema(KeyType::Integer, Clock::Timestamp);
        let words = [None, Some("a"), Some("b"), Some("c")];
        let row = |(i, row): (usize, &(Option<i64>, i64, usize))| {
            (row.0, Some(10 * step * i as i64 + row.1), words[row.2], Some(i as f64))
        };
        let rows: Vec<Row> = rows.iter().enumerate().map(row).collect();
        let batches: Vec<_> = rows.chunks(7).map(|rows| batch(&schema, rows)).collect();
        let alone = on_threads(&schema, &batches, 1);
        for threads in [2, 3, 8] {
            let events = on_threads(&schema, &batches, threads);
            prop_assert_eq!(events.fingerprint(), alone.fingerprint());
            // The NULLs of numbers are NaN, which equals nothing.
            prop_assert_eq!(format!("{events:?}"), format!("{alone:?}"));
        }
    }
}

/// More rows than lie as they came, of more entities than there are groups, in order of time and not.
#[test]
fn parted_rows_are_in_the_sequence_of_sorted_rows() {
    const ROWS: i64 = 200_000;
    let schema = schema(KeyType::Integer, Clock::Timestamp);
    let draw = |i: i64, below: i64| ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as i64 % below;
    for late in [false, true] {
        let at = |i: i64| if late { (i * 7_919) % ROWS } else { i };
        let word = |i: i64| [Some("a"), None, Some("b")][(i % 3) as usize];
        let mut rows: Vec<Row> =
            (0..ROWS).map(|i| (Some(draw(i, 3_000)), Some(at(i)), word(i), Some(i as f64))).collect();
        let batches: Vec<_> = rows.chunks(7_000).map(|rows| batch(&schema, rows)).collect();
        let alone = on_threads(&schema, &batches, 1);
        rows.sort_by_key(|row| (row.0, row.1));
        assert_eq!((alone.entities() > 1_000, alone.report.late > 0), (true, late), "{}", alone.entities());
        let sorted = |events: &Events| {
            let Keys::Integer(keys) = &events.keys else { panic!("not integers") };
            let (texts, numbers) = (texts(events), numbers(events));
            let mut rows = rows.iter();
            for (key, pair) in keys.iter().zip(events.offsets.windows(2)) {
                for i in pair[0]..pair[1] {
                    let found = (Some(*key), Some(events.time[i] as i64), texts[i], numbers[i].map(f64::from));
                    assert_eq!(Some(&found), rows.next());
                }
            }
            assert_eq!(rows.next(), None);
        };
        sorted(&alone);
        for threads in [2, 5] {
            sorted(&on_threads(&schema, &batches, threads));
        }
    }
}

#[test]
fn narrow_columns_are_the_same_events_as_wide_ones() {
    let mut source = schema(KeyType::Integer, Clock::Number);
    source.fields[0].value = ValueType::Integer;
    let keys = [Some(3), None, Some(-1), Some(3), Some(3)];
    let times = [Some(2.0), Some(1.0), Some(5.0), None, Some(1.0)];
    let items = [Some(-7), Some(1), None, Some(2), Some(300)];
    let numbers = [Some(0.5), None, Some(f32::INFINITY), Some(1.0), None];
    let wide: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(keys)),
        Arc::new(Float64Array::from_iter(times.map(|at| at.map(f64::from)))),
        Arc::new(Int64Array::from_iter(items)),
        Arc::new(Float64Array::from_iter(numbers.map(|number| number.map(f64::from)))),
    ];
    let narrow: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter(keys.map(|key| key.map(|key| key as i32)))),
        Arc::new(Float32Array::from_iter(times)),
        Arc::new(Int16Array::from_iter(items.map(|item| item.map(|item| item as i16)))),
        Arc::new(Float32Array::from_iter(numbers)),
    ];
    let events = |columns: Vec<ArrayRef>| {
        let fields = columns.iter().map(|column| arrow_schema::Field::new("c", column.data_type().clone(), true));
        let schema = Arc::new(arrow_schema::Schema::new(fields.collect::<Vec<_>>()));
        collect(&source, &[RecordBatch::try_new(schema, columns).unwrap()])
    };
    let (wide, narrow) = (events(wide), events(narrow));
    assert_eq!(format!("{wide:?}"), format!("{narrow:?}"));
    assert_eq!((narrow.len(), narrow.report.infinite_numbers[1]), (3, 1));
}
