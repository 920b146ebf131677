//! Event batches in shared memory: the same events as through the pipe, and no harm in nonsense.

use crate::driver::{job, start};
use arrow_array::{Array, ArrayRef, Float32Array, Int32Array, Int64Array, RecordBatch, StringArray};
use persona_core::protocol::region::{ColumnLayout, Form, Layout, Placed, REGION_BYTES};
use persona_core::protocol::ring::{ALIGNMENT, Ring};
use persona_core::protocol::{Frame, Job, Kind, Outcome, Task};
use persona_core::source::{Clock, Field, FieldKind, KeyType, SourceSchema, ValueType};
use persona_core::spec::ModelSpec;
use persona_core::{Error, ErrorKind};
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout};
use std::sync::Arc;

const FORMS: [Form; 5] = [Form::Int64, Form::Int64, Form::Int32, Form::Text, Form::Float32];

fn source() -> SourceSchema {
    let fields = vec![
        Field::new("item", FieldKind::Category, ValueType::Integer),
        Field::new("color", FieldKind::Category, ValueType::Text),
        Field::new("price", FieldKind::Number, ValueType::Number),
    ];
    SourceSchema::new(KeyType::Integer, Clock::Timestamp, fields)
}

/// Rows with NULLs in every column, some of them late and some at the same time.
fn batches() -> Vec<RecordBatch> {
    let batch = |batch: i64| {
        let rows = || (0..900 + batch).map(move |row| 1000 * batch + row);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows().map(|i| (i % 97 != 0).then_some(i * 7 % 50)).collect::<Int64Array>()),
            Arc::new(rows().map(|i| (i % 89 != 0).then_some(i / 3 - i % 5)).collect::<Int64Array>()),
            Arc::new(rows().map(|i| (i % 83 != 0).then_some((i * 7 + i / 50) as i32 % 20)).collect::<Int32Array>()),
            Arc::new(rows().map(|i| (i % 4 != 0).then_some(format!("ä{}", i % 9))).collect::<StringArray>()),
            Arc::new(rows().map(|i| (i % 6 != 0).then_some(i as f32 / 8.0)).collect::<Float32Array>()),
        ];
        let names = ["c0", "c1", "c2", "c3", "c4"];
        RecordBatch::try_from_iter_with_nullable(names.into_iter().zip(columns).map(|(n, c)| (n, c, true))).unwrap()
    };
    (0..40).map(batch).collect()
}

fn write(batch: &RecordBatch) -> (Layout, Vec<u8>) {
    let (mut bytes, mut layout) = (Vec::new(), Layout { rows: batch.num_rows() as u32, columns: Vec::new() });
    for (column, form) in batch.columns().iter().zip(FORMS) {
        let data = column.to_data();
        let text = if form == Form::Text { data.buffers()[1].as_slice() } else { &[] };
        let shape = ColumnLayout { form, nulls: data.nulls().is_some(), text: text.len() };
        let [validity, values, _] = shape.parts(column.len());
        let nulls = data.nulls().map_or(&[][..], |nulls| nulls.validity());
        for part in [&nulls[..validity], &data.buffers()[0][..values], text] {
            bytes.extend_from_slice(part);
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        }
        layout.columns.push(shape);
    }
    (layout, bytes)
}

/// A region that every process started from here inherits.
fn region() -> File {
    // SAFETY: the descriptor is new and ours.
    let file = unsafe { File::from_raw_fd(libc::memfd_create(c"events".as_ptr(), 0)) };
    file.set_len(REGION_BYTES as u64).unwrap();
    file
}

/// An engine that counts transitions: what it makes shows every event.
fn begin(region: Option<&File>) -> (std::process::Child, ChildStdin, ChildStdout) {
    let mut child = start(Path::new(env!("CARGO_BIN_EXE_persona-engine")));
    let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let spec = json!({"encoder": {"kind": "transitions"}, "objective": {"kind": "next_event", "field": "item"}});
    let spec = ModelSpec::parse(&spec, &source()).unwrap();
    let job = Job { region: region.map(AsRawFd::as_raw_fd), ..job(Task::Train, &source(), Some(&spec), 2) };
    Frame::json(Kind::Job, &job).unwrap().write_to(&mut input).unwrap();
    (child, input, output)
}

/// The last frame's outcome. The input stays open until then.
fn result(mut input: ChildStdin, mut output: ChildStdout) -> Result<Outcome, Error> {
    input.flush().unwrap();
    while let Some(frame) = Frame::read_from(&mut output).unwrap() {
        match frame.kind {
            Kind::Done => return Ok(frame.parse().unwrap()),
            Kind::Failed => return Err(frame.parse().unwrap()),
            _ => {}
        }
    }
    panic!("the engine ended without a word");
}

fn through_the_pipe(batches: &[RecordBatch]) -> Outcome {
    let (_child, mut input, output) = begin(None);
    let mut columns = persona_core::protocol::ColumnWriter::new(Kind::Events, &batches[0].schema()).unwrap();
    let frames = batches.iter().flat_map(|batch| columns.write(batch).unwrap());
    frames.chain([Frame::new(Kind::End, Vec::new())]).for_each(|frame| frame.write_to(&mut input).unwrap());
    result(input, output).unwrap()
}

/// With a ring that is so small that it is full and begins anew all the time.
fn through_the_region(batches: &[RecordBatch]) -> Outcome {
    let region = region();
    let (_child, mut input, mut output) = begin(Some(&region));
    let mut ring = Ring::new(100_000);
    for batch in batches {
        let (layout, bytes) = write(batch);
        let start = loop {
            match ring.place(bytes.len()) {
                Some(start) => break start,
                None => {
                    if Frame::read_from(&mut output).unwrap().unwrap().kind == Kind::Released {
                        ring.release().unwrap();
                    }
                }
            }
        };
        region.write_all_at(&bytes, start as u64).unwrap();
        Frame::json(Kind::Placed, &Placed { start, layout }).unwrap().write_to(&mut input).unwrap();
    }
    Frame::new(Kind::End, Vec::new()).write_to(&mut input).unwrap();
    result(input, output).unwrap()
}

#[test]
fn the_region_carries_the_same_events_as_the_pipe() {
    let batches = batches();
    let (pipe, region) = (through_the_pipe(&batches), through_the_region(&batches));
    assert!(!pipe.skipped.is_empty());
    assert_eq!(pipe.fingerprint, region.fingerprint);
    assert_eq!((pipe.rows, pipe.events, pipe.skipped), (region.rows, region.events, region.skipped));
}

#[test]
fn a_batch_that_is_not_where_it_should_be_is_a_protocol_error() {
    let (layout, bytes) = write(&batches()[0]);
    let mut wrong = layout.clone();
    wrong.columns[0].text = usize::MAX;
    let endless = Layout { rows: u32::MAX, ..layout.clone() };
    for (start, layout) in [(REGION_BYTES - 64, layout.clone()), (usize::MAX, layout.clone()), (0, wrong), (0, endless)]
    {
        let region = region();
        region.write_all_at(&bytes, 0).unwrap();
        let (_child, mut input, output) = begin(Some(&region));
        Frame::json(Kind::Placed, &Placed { start, layout }).unwrap().write_to(&mut input).unwrap();
        assert_eq!(result(input, output).unwrap_err().kind, ErrorKind::Protocol);
    }
    let (_child, mut input, output) = begin(None);
    Frame::json(Kind::Placed, &Placed { start: 0, layout }).unwrap().write_to(&mut input).unwrap();
    assert_eq!(result(input, output).unwrap_err().kind, ErrorKind::Protocol);
}
