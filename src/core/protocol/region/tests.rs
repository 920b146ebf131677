use super::*;
use crate::error::ErrorKind;
use arrow_array::{ArrayRef, Float32Array, Int16Array, Int64Array, StringArray};
use proptest::prelude::*;

type Row = (Option<i64>, Option<i16>, Option<String>, Option<f32>);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let number = prop::option::of(-1e9f32..1e9);
    prop::collection::vec((any::<Option<i64>>(), any::<Option<i16>>(), prop::option::of(".{0,8}"), number), 0..40)
}

fn batch(rows: &[Row]) -> Vec<ArrayRef> {
    vec![
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0))),
        Arc::new(Int16Array::from_iter(rows.iter().map(|row| row.1))),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.2.as_deref()))),
        Arc::new(Float32Array::from_iter(rows.iter().map(|row| row.3))),
    ]
}

const FORMS: [Form; 4] = [Form::Int64, Form::Int16, Form::Text, Form::Float32];

/// The layout and the bytes, as a scan writes them.
fn write(columns: &[ArrayRef]) -> (Layout, Vec<u8>) {
    let (mut bytes, mut layout) = (Vec::new(), Layout { rows: columns[0].len() as u32, columns: Vec::new() });
    for (column, form) in columns.iter().zip(FORMS) {
        let data = column.to_data();
        let nulls = data.nulls().filter(|nulls| nulls.null_count() > 0);
        let text = if form == Form::Text { data.buffers()[1].as_slice() } else { &[] };
        let shape = ColumnLayout { form, nulls: nulls.is_some(), text: text.len() };
        let [validity, values, _] = shape.parts(column.len());
        for part in [&nulls.map_or(&[][..], |n| n.validity())[..validity], &data.buffers()[0][..values], text] {
            bytes.extend_from_slice(part);
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        }
        layout.columns.push(shape);
    }
    (layout, bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(rows in rows()) {
        let columns = batch(&rows);
        let (layout, bytes) = write(&columns);
        let read = layout.read(Buffer::from(bytes)).unwrap();
        prop_assert_eq!(read.num_rows(), rows.len());
        prop_assert_eq!(read.columns(), columns);
    }

    #[test]
    fn damage_never_panics(rows in rows(), place: prop::sample::Index, byte: u8, other in 0u32..50, more in 0usize..99) {
        let (layout, mut bytes) = write(&batch(&rows));
        let place = place.index(bytes.len().max(1));
        if let Some(hit) = bytes.get_mut(place) {
            *hit = byte;
        }
        let _ = layout.read(Buffer::from(bytes.clone()));
        let _ = Layout { rows: other, ..layout.clone() }.read(Buffer::from(bytes.clone()));
        let mut longer = layout.clone();
        longer.columns[2].text += more;
        let _ = longer.read(Buffer::from(bytes.clone()));
        let mut exchanged = layout;
        exchanged.columns.swap(1, 2);
        let _ = exchanged.read(Buffer::from(bytes));
    }
}

#[test]
fn what_makes_no_sense_is_an_error() {
    let column = ColumnLayout { form: Form::Text, nulls: false, text: 3 };
    let layout = Layout { rows: 1, columns: vec![column.clone()] };
    let mut bytes = vec![0; 128];
    bytes[4..8].copy_from_slice(&3u32.to_le_bytes());
    bytes[64..67].copy_from_slice(b"abc");
    assert!(layout.read(Buffer::from(bytes.clone())).is_ok());
    for (place, byte) in [(4, 9), (0, 4), (65, 0xff)] {
        let mut damaged = bytes.clone();
        damaged[place] = byte;
        assert_eq!(layout.read(Buffer::from(damaged)).unwrap_err().kind, ErrorKind::Protocol);
    }
    assert!(layout.read(Buffer::from(bytes[..64].to_vec())).is_err());
    let endless = Layout { rows: 1, columns: vec![ColumnLayout { text: usize::MAX - 9, ..column }; 3] };
    assert_eq!(endless.bytes(), None);
    assert!(endless.read(Buffer::from(bytes)).is_err());
}
