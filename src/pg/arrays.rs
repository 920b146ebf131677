//! One-dimensional arrays whose elements are few values again and again.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::DataType;
use pgrx::pg_sys;
use std::ffi::c_char;

/// The values that elements have, each in the form of its type, once.
pub struct Elements {
    kind: ElementType,
    words: Vec<pg_sys::Datum>,
    /// What the words of texts point to: a header of four bytes, then the text, each at a multiple of four.
    _texts: Vec<u32>,
}

#[derive(Clone, Copy)]
pub struct ElementType {
    oid: pg_sys::Oid,
    length: i16,
    by_value: bool,
    align: c_char,
}

/// `real`
pub const REAL: ElementType =
    ElementType { oid: pg_sys::FLOAT4OID, length: 4, by_value: true, align: pg_sys::TYPALIGN_INT as c_char };

impl Elements {
    /// `array`: the arrays' type; `values`: integers for elements that are passed by value, or text.
    pub fn new(array: pg_sys::Oid, values: &dyn Array) -> Self {
        let kind = ElementType::of(array);
        if *values.data_type() != DataType::Utf8 {
            let words = values.as_primitive::<Int64Type>().values().iter().map(|&value| pg_sys::Datum::from(value));
            return Elements { kind, words: words.collect(), _texts: Vec::new() };
        }
        let (mut texts, mut starts) = (Vec::new(), Vec::with_capacity(values.len()));
        for text in values.as_string::<i32>().iter().flatten() {
            starts.push(texts.len());
            let mut header = 0u32;
            // SAFETY: a varlena's header is its first four bytes.
            unsafe { pgrx::set_varsize_4b((&raw mut header).cast(), (pg_sys::VARHDRSZ + text.len()) as i32) };
            texts.push(header);
            let word = |bytes: &[u8]| {
                let mut word = [0; 4];
                word[..bytes.len()].copy_from_slice(bytes);
                u32::from_ne_bytes(word)
            };
            texts.extend(text.as_bytes().chunks(4).map(word));
        }
        let words = starts.into_iter().map(|start| pg_sys::Datum::from(texts[start..].as_ptr())).collect();
        Elements { kind, words, _texts: texts }
    }

    pub fn words(&self) -> &[pg_sys::Datum] {
        &self.words
    }

    pub fn kind(&self) -> ElementType {
        self.kind
    }
}

impl ElementType {
    fn of(array: pg_sys::Oid) -> Self {
        let mut kind = ElementType { oid: pg_sys::Oid::INVALID, length: 0, by_value: false, align: 0 };
        // SAFETY: look-ups in the catalog's caches; an array type has an element type.
        unsafe {
            kind.oid = pg_sys::get_element_type(array);
            pg_sys::get_typlenbyvalalign(kind.oid, &mut kind.length, &mut kind.by_value, &mut kind.align);
        }
        kind
    }

    /// An array in the current memory context.
    ///
    /// # Safety
    /// Every element is of this type, and what it points to is there.
    pub unsafe fn array(self, elements: &mut [pg_sys::Datum]) -> pg_sys::Datum {
        let ElementType { oid, length, by_value, align } = self;
        let count = elements.len() as i32;
        // SAFETY: as promised by the caller; the elements are copied.
        let array =
            unsafe { pg_sys::construct_array(elements.as_mut_ptr(), count, oid, length.into(), by_value, align) };
        pg_sys::Datum::from(array)
    }
}
