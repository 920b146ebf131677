use super::*;
use crate::error::ErrorKind;
use crate::source::{Clock, Field, FieldKind, KeyType, ValueType};
use arrow_array::{ArrayRef, Float64Array, Int64Array, StringArray};
use proptest::prelude::*;
use std::sync::Arc;

const KINDS: [Kind; 23] = [
    Kind::Job,
    Kind::Artifact,
    Kind::Events,
    Kind::End,
    Kind::Progress,
    Kind::Metrics,
    Kind::Profiles,
    Kind::Items,
    Kind::Findings,
    Kind::Done,
    Kind::Failed,
    Kind::Placed,
    Kind::Released,
    Kind::Table,
    Kind::Judgement,
    Kind::Part,
    Kind::Mistyped,
    Kind::Features,
    Kind::Segments,
    Kind::Synthetic,
    Kind::Wanted,
    Kind::Shifts,
    Kind::Ready,
];

fn schema() -> SourceSchema {
    SourceSchema::new(
        KeyType::Text,
        Clock::Timestamp,
        vec![
            Field::new("item", FieldKind::Category, ValueType::Integer),
            Field::new("price", FieldKind::Number, ValueType::Number),
        ],
    )
}

type Row = (Option<String>, Option<i64>, Option<i64>, Option<f64>);

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.0.as_deref()))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.1))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.2))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.3))),
    ];
    RecordBatch::try_new(schema().arrow(), columns).unwrap()
}

/// Bytes of all frames, one after the other.
fn bytes(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.write_to(&mut bytes).unwrap());
    bytes
}

fn read_all(mut input: impl Read) -> Result<Vec<Frame>> {
    std::iter::from_fn(|| Frame::read_from(&mut input).transpose()).collect()
}

/// Reads at most `step` bytes at a time, as a pipe may.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(out.len()).min(self.0.len());
        out[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let frame = (prop::sample::select(&KINDS), prop::collection::vec(any::<u8>(), 0..50));
    prop::collection::vec(frame.prop_map(|(kind, payload)| Frame::new(kind, payload)), 0..8)
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let number = prop::option::of(-1e9f64..1e9);
    prop::collection::vec((prop::option::of(".{0,8}"), any::<Option<i64>>(), any::<Option<i64>>(), number), 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_round_trip_in_any_cut(frames in frames(), step in 1usize..40) {
        let bytes = bytes(&frames);
        prop_assert_eq!(read_all(Trickle(&bytes, step)).unwrap(), frames);
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_an_error(frames in frames(), end: prop::sample::Index) {
        let bytes = bytes(&frames);
        let end = end.index(bytes.len() + 1);
        let mut whole = 0;
        let borders: Vec<usize> = std::iter::once(0)
            .chain(frames.iter().map(|frame| { whole += HEADER + frame.payload.len(); whole }))
            .collect();
        match read_all(&bytes[..end]) {
            Ok(read) => prop_assert!(borders[read.len()] == end),
            Err(error) => {
                prop_assert!(!borders.contains(&end));
                prop_assert_eq!(error.kind, ErrorKind::Protocol);
            }
        }
    }

    #[test]
    fn columns_round_trip_in_any_cut(batches in prop::collection::vec(rows(), 0..5), size in 1usize..500) {
        let batches: Vec<RecordBatch> = batches.iter().map(|rows| batch(rows)).collect();
        let mut writer = ColumnWriter::new(Kind::Events, &schema().arrow()).unwrap();
        let mut reader = ColumnReader::new();
        let mut received = Vec::new();
        for batch in &batches {
            let stream: Vec<u8> = writer.write(batch).unwrap().into_iter().flat_map(|frame| frame.payload).collect();
            for frame in cut(Kind::Events, stream, size) {
                prop_assert!(frame.payload.len() <= size);
                received.extend(reader.read(frame).unwrap());
            }
        }
        prop_assert_eq!(received, batches);
    }

    #[test]
    fn cuts_join_to_what_was_cut(bytes: Vec<u8>, size in 1usize..100) {
        let frames = cut(Kind::Artifact, bytes.clone(), size);
        prop_assert!(frames.iter().all(|frame| (1..=size).contains(&frame.payload.len())));
        prop_assert_eq!(frames.into_iter().flat_map(|frame| frame.payload).collect::<Vec<_>>(), bytes);
    }

    #[test]
    fn garbage_frames_never_panic(garbage: Vec<u8>) {
        for frame in read_all(garbage.as_slice()).unwrap_or_default() {
            let _ = frame.parse::<Job>();
        }
        let frame = Frame::new(Kind::Job, garbage);
        prop_assert!(frame.parse::<Job>().is_err());
        prop_assert!(frame.parse::<Progress>().is_err());
    }

    #[test]
    fn garbage_columns_never_panic(garbage: Vec<u8>) {
        let _ = ColumnReader::new().read(Frame::new(Kind::Events, garbage));
    }

    #[test]
    fn damaged_columns_never_panic(rows in rows(), place: prop::sample::Index, byte: u8) {
        let mut writer = ColumnWriter::new(Kind::Events, &schema().arrow()).unwrap();
        let mut stream: Vec<u8> = writer.write(&batch(&rows)).unwrap().into_iter().flat_map(|frame| frame.payload).collect();
        let place = place.index(stream.len());
        stream[place] = byte;
        let _ = ColumnReader::new().read(Frame::new(Kind::Events, stream));
    }
}

#[test]
fn kinds_are_their_bytes() {
    for (byte, kind) in (1..).zip(KINDS) {
        assert_eq!(Frame::read_header([byte, 7, 0, 0, 0]).unwrap(), (kind, 7));
    }
    for byte in [0, 24, 255] {
        assert_eq!(Frame::read_header([byte, 0, 0, 0, 0]).unwrap_err().kind, ErrorKind::Protocol);
    }
}

#[test]
fn a_frame_that_announces_too_much_is_refused_before_it_is_read() {
    let mut header = [Kind::Events as u8, 0, 0, 0, 0];
    header[1..].copy_from_slice(&(MAX_FRAME as u32 + 1).to_le_bytes());
    assert!(Frame::read_from(&mut header.as_slice()).unwrap_err().message.contains("announces"));
    assert!(Frame::new(Kind::Events, vec![0; MAX_FRAME + 1]).header().is_err());
}

#[test]
fn json_frames_round_trip() {
    let limits = Limits { threads: 2, memory_mb: 0, nice: 5 };
    let job = Job {
        protocol: VERSION,
        task: Task::Check,
        source: schema(),
        spec: None,
        ask: Ask { label: Some("tier".into()), synthesis: Some(Synthesis { entities: 5, seed: 1 }), ..Ask::default() },
        tables: Vec::new(),
        region: None,
        keep: None,
        limits,
    };
    assert_eq!(Frame::json(Kind::Job, &job).unwrap().parse::<Job>().unwrap(), job);
    let progress =
        Progress { metric: Some(("ndcg@10".into(), 0.05)), loss: Some(7.5), ..Progress::of(Phase::Train, 3, 9) };
    assert_eq!(Frame::json(Kind::Progress, &progress).unwrap().parse::<Progress>().unwrap(), progress);
    let error = Error::invalid("no").detail("Because.").hint("Try again.");
    assert_eq!(Frame::json(Kind::Failed, &error).unwrap().parse::<Error>().unwrap(), error);
}
