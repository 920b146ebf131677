//! From drawn codes back to events: the columns of a source's table.

use crate::error::{Error, ErrorKind, Result};
use crate::events::Values;
use crate::features::{Bins, FIRST, FieldState, Fitted};
use crate::source::{Clock, KeyType, SourceSchema, ValueType};
use arrow_array::{ArrayRef, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_buffer::Buffer;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// Times that are drawn for an event to find one of the hour, weekday and month that it should have.
const TRIES: usize = 32;

/// Sequences of events as codes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// Events of each entity, at least one.
    pub lengths: Vec<usize>,
    /// Of each input of the model: codes of all events, entity after entity.
    pub codes: Vec<Vec<u32>>,
}

impl Drawn {
    pub fn events(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Where each entity's events begin; the last offset is the end.
    pub fn offsets(&self) -> Vec<usize> {
        let ends = self.lengths.iter().scan(0, |end, &n| {
            *end += n;
            Some(*end)
        });
        std::iter::once(0).chain(ends).collect()
    }
}

/// Turns codes into events, as the version that drew them was fitted.
pub struct Decoder<'a> {
    fitted: &'a Fitted,
    schema: &'a SourceSchema,
    /// Of each field, which input has its codes; none of those that were left out.
    inputs: Vec<Option<usize>>,
    /// The input with the calendar's first feature.
    calendar: usize,
}

impl<'a> Decoder<'a> {
    pub fn new(fitted: &'a Fitted, schema: &'a SourceSchema) -> Self {
        let mut next = 0;
        let mut place = |state: &FieldState| {
            let drawn = !matches!(state, FieldState::Dropped(_));
            next += usize::from(drawn);
            drawn.then(|| next - 1)
        };
        let inputs = fitted.fields.iter().map(|field| place(&field.state)).collect();
        Decoder { fitted, schema, inputs, calendar: next }
    }

    /// A row for each event, in the form of the source's events. Entities are numbered from `first`; unknown and missing
    /// values are NULL.
    pub fn rows(&self, drawn: &Drawn, first: u64, rng: &mut ChaCha8Rng) -> Result<RecordBatch> {
        let mut columns = vec![self.keys(drawn, first, rng), self.times(drawn, rng)?];
        for (i, field) in self.fitted.fields.iter().enumerate() {
            let codes = self.inputs[i].map(|input| drawn.codes[input].as_slice());
            columns.push(match (&field.state, codes) {
                (FieldState::Category(vocabulary), Some(codes)) => category(&vocabulary.values, codes),
                (FieldState::Binned(bins), Some(codes)) => number(bins, codes, rng),
                _ => nothing(self.schema.fields[i].value, drawn.events()),
            });
        }
        Ok(RecordBatch::try_new(self.schema.arrow(), columns)?)
    }

    /// Numbers; UUIDs are random (version 4).
    fn keys(&self, drawn: &Drawn, first: u64, rng: &mut ChaCha8Rng) -> ArrayRef {
        let entities = || (first..).zip(&drawn.lengths);
        let repeated = || entities().flat_map(|(key, &n)| std::iter::repeat_n(key, n));
        match self.schema.key {
            KeyType::Integer => Arc::new(Int64Array::from_iter_values(repeated().map(|key| key as i64))),
            KeyType::Text => Arc::new(StringArray::from_iter_values(repeated().map(|key| key.to_string()))),
            KeyType::Uuid => {
                let bytes: Vec<u8> = entities().flat_map(|(_, &n)| uuid(rng).repeat(n)).collect();
                Arc::new(FixedSizeBinaryArray::new(16, Buffer::from_vec(bytes), None))
            }
        }
    }

    /// Each event's time is the one before it and a gap; of several that could be, one that is of the right hour, weekday
    /// and month, or the nearest to that.
    fn times(&self, drawn: &Drawn, rng: &mut ChaCha8Rng) -> Result<ArrayRef> {
        let pace =
            self.fitted.pace.as_ref().ok_or_else(|| Error::new(ErrorKind::Engine, "the version has no times"))?;
        let features = self.fitted.time.calendar_inputs();
        let gaps = pace.has_gaps().then(|| &drawn.codes[self.calendar + features]);
        let mut times = Vec::with_capacity(drawn.events());
        for pair in drawn.offsets().windows(2) {
            let mut now = 0.0;
            for event in pair[0]..pair[1] {
                let wanted: Vec<u32> =
                    (self.calendar..self.calendar + features).map(|input| drawn.codes[input][event]).collect();
                let mut draw = || match (event == pair[0], gaps) {
                    (true, _) => pace.start(rng),
                    (false, Some(codes)) => now + pace.gap(codes[event], rng),
                    (false, None) => now,
                };
                now = self.best(&wanted, &mut draw);
                times.push(now);
            }
        }
        Ok(match self.schema.clock {
            Clock::Number => Arc::new(Float64Array::from(times)),
            _ => Arc::new(Int64Array::from_iter_values(times.into_iter().map(|at| at as i64))),
        })
    }

    /// Of several times the first that misses the fewest of the features.
    fn best(&self, wanted: &[u32], draw: &mut impl FnMut() -> f64) -> f64 {
        let (mut best, mut missed) = (draw(), usize::MAX);
        let mut at = best;
        for _ in 0..TRIES {
            let misses = self.fitted.time.misses(at, wanted);
            if misses < missed {
                (best, missed) = (at, misses);
            }
            if missed == 0 {
                break;
            }
            at = draw();
        }
        best
    }
}

fn uuid(rng: &mut ChaCha8Rng) -> [u8; 16] {
    let mut bytes: [u8; 16] = rng.random();
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    bytes
}

fn category(values: &Values, codes: &[u32]) -> ArrayRef {
    let known = codes.iter().map(|&code| code.checked_sub(FIRST).map(|value| value as usize));
    match values {
        Values::Integer(values) => Arc::new(Int64Array::from_iter(known.map(|value| Some(values[value?])))),
        Values::Text(values) => Arc::new(StringArray::from_iter(known.map(|value| Some(values.get(value?))))),
    }
}

fn number(bins: &Bins, codes: &[u32], rng: &mut ChaCha8Rng) -> ArrayRef {
    Arc::new(Float64Array::from_iter(codes.iter().map(|&code| bins.draw(code, rng))))
}

fn nothing(value: ValueType, rows: usize) -> ArrayRef {
    match value {
        ValueType::Integer => Arc::new(Int64Array::new_null(rows)),
        ValueType::Text => Arc::new(StringArray::new_null(rows)),
        _ => Arc::new(Float64Array::new_null(rows)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Column, Events, Keys, Report, Strings};
    use crate::source::{Field, FieldKind};
    use crate::spec::ModelSpec;
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float64Type, Int64Type};
    use rand::SeedableRng;
    use serde_json::json;

    const HOUR: f64 = 3_600e6;

    fn schema(key: KeyType, clock: Clock) -> SourceSchema {
        let field = |name: &str, kind, value| Field { min_count: 2, ..Field::new(name, kind, value) };
        let fields = vec![
            field("constant", FieldKind::Number, ValueType::Number),
            field("item", FieldKind::Category, ValueType::Text),
            field("price", FieldKind::Number, ValueType::Number),
        ];
        SourceSchema::new(key, clock, fields)
    }

    /// Three entities: their events are two hours apart.
    fn events() -> Events {
        let items: Strings = ["a", "b", "rare"].iter().collect();
        Events {
            keys: Keys::Integer(vec![1, 2, 3]),
            offsets: vec![0, 3, 6, 7],
            time: [0.0, 2.0, 4.0, 24.0, 26.0, 28.0, 1.0].map(|hours| hours * HOUR).to_vec(),
            columns: vec![
                Column::Number(vec![1.0; 7]),
                Column::Category { codes: vec![0, 1, 0, 0, 1, 1, 2], values: Values::Text(items) },
                Column::Number(vec![1.5, 2.0, 1.5, 2.0, f32::NAN, 2.0, 1.5]),
            ],
            report: Report::default(),
        }
    }

    fn fitted(schema: &SourceSchema) -> Fitted {
        let spec = json!({"encoder": {"kind": "gan"}, "objective": {"kind": "adversarial", "field": "item"}});
        let spec = ModelSpec::parse(&spec, schema).unwrap();
        Fitted::fit(&events(), schema, &spec, &[3, 6, 7]).unwrap()
    }

    /// What was encoded is decoded again: values, missing ones and unknown ones, gaps and hours.
    #[test]
    fn events_come_back_from_their_codes() {
        let schema = schema(KeyType::Integer, Clock::Timestamp);
        let fitted = fitted(&schema);
        let encoded = fitted.encode(events()).unwrap();
        let codes = |input: &crate::features::Input| match input {
            crate::features::Input::Category { codes, .. } => codes.clone(),
            crate::features::Input::Clock { codes, .. } => codes.iter().map(|&code| u32::from(code)).collect(),
            other => panic!("{} is no category", other.name()),
        };
        let drawn = Drawn { lengths: vec![3, 3, 1], codes: encoded.inputs.iter().map(codes).collect() };
        let rows = Decoder::new(&fitted, &schema).rows(&drawn, 10, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[10, 10, 10, 11, 11, 11, 12]);
        let times = rows.column(1).as_primitive::<Int64Type>().values();
        assert_eq!([times[1] - times[0], times[2] - times[1], times[5] - times[4]], [2 * HOUR as i64; 3]);
        assert_eq!(rows.column(2).null_count(), 7);
        let items: Vec<_> = rows.column(3).as_string::<i32>().iter().collect();
        assert_eq!(items, [Some("a"), Some("b"), Some("a"), Some("a"), Some("b"), Some("b"), None]);
        let prices: Vec<_> = rows.column(4).as_primitive::<Float64Type>().iter().collect();
        assert_eq!(prices, [Some(1.5), Some(2.0), Some(1.5), Some(2.0), None, Some(2.0), Some(1.5)]);
    }

    #[test]
    fn keys_are_fresh_and_of_their_type() {
        let drawn = Drawn {
            lengths: vec![2, 1],
            codes: vec![vec![2, 3, 2], vec![2, 3, 2], vec![2; 3], vec![2; 3], vec![0; 3]],
        };
        let keys = |key| {
            let schema = schema(key, Clock::Number);
            let fitted = fitted(&schema);
            let decoder = Decoder::new(&fitted, &schema);
            decoder.rows(&drawn, 1, &mut ChaCha8Rng::seed_from_u64(1)).unwrap().column(0).clone()
        };
        assert_eq!(keys(KeyType::Text).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["1", "1", "2"]);
        let uuids = keys(KeyType::Uuid);
        let uuids = uuids.as_fixed_size_binary();
        assert!(uuids.value(0) == uuids.value(1) && uuids.value(0) != uuids.value(2) && uuids.value(0)[6] >> 4 == 4);
    }
}
