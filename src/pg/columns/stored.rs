//! Values to columns from where a row stores them, those of many rows at once: what is done is asked once.

use super::{Column, Columns, Step, microseconds};
use pgrx::pg_sys;

/// How a value is stored in a row.
#[derive(Clone, Copy)]
pub enum Stored {
    Value1,
    Value2,
    Value4,
    Value8,
    /// What a datum points to.
    Reference,
}

impl Stored {
    /// # Safety
    /// The value is stored in this way.
    unsafe fn datum(self, value: *const u8) -> pg_sys::Datum {
        // SAFETY: as promised by the caller; stored values are aligned.
        unsafe {
            match self {
                Stored::Value1 => pg_sys::Datum::from(value.read()),
                Stored::Value2 => pg_sys::Datum::from(value.cast::<i16>().read()),
                Stored::Value4 => pg_sys::Datum::from(value.cast::<i32>().read()),
                Stored::Value8 => pg_sys::Datum::from(value.cast::<u64>().read()),
                Stored::Reference => pg_sys::Datum::from(value),
            }
        }
    }
}

impl Columns {
    /// Puts stored values into a column of the rows that are being appended; a null pointer is NULL.
    ///
    /// # Safety
    /// There is such a column, the batch has room for the rows, and each value is stored in this way and of the column's form.
    #[inline]
    pub unsafe fn put_stored(&mut self, column: usize, values: impl Iterator<Item = *const u8>, stored: Stored) {
        let rows = self.rows..;
        // SAFETY: as promised by the caller.
        unsafe { self.columns[column].append_stored(rows.zip(values), stored) };
    }
}

impl Column {
    /// Appends values of these rows, which are stored in this way.
    ///
    /// # Safety
    /// As [`Column::append`] of each.
    #[inline]
    unsafe fn append_stored(&mut self, values: impl Iterator<Item = (usize, *const u8)>, stored: Stored) {
        // SAFETY: as promised by the caller; stored values are aligned.
        unsafe {
            match self.step {
                Step::Copy8 => self.append_each(values, |value| value.cast::<u64>().read()),
                Step::Copy4 => self.append_each(values, |value| value.cast::<u32>().read()),
                Step::Timestamp => self.append_each(values, |value| microseconds(value.cast::<i64>().read())),
                Step::Text => self.append_texts(values),
                _ => values.for_each(|(row, value)| match value.is_null() {
                    true => self.append_null(row),
                    false => self.append(row, stored.datum(value)),
                }),
            }
        }
    }

    /// # Safety
    /// As [`Column::append`] of each; the column is one of text.
    #[inline]
    unsafe fn append_texts(&mut self, values: impl Iterator<Item = (usize, *const u8)>) {
        for (row, value) in values {
            // SAFETY: as promised by the caller. A header of one byte says how long the text is with it.
            unsafe {
                let varlena = value.cast::<pg_sys::varlena>();
                if value.is_null() {
                    self.append_null(row);
                } else if pgrx::varatt_is_1b(varlena) && !pgrx::varatt_is_1b_e(varlena) {
                    let text = std::slice::from_raw_parts(value.add(1), pgrx::varsize_1b(varlena) - 1);
                    self.text.extend_from_slice(text);
                    self.store(row + 1, self.text.len() as i32);
                } else {
                    self.append(row, Stored::Reference.datum(value));
                }
            }
        }
    }

    /// # Safety
    /// As [`Column::append`] of each; `T` is as wide as the column's form.
    #[inline]
    unsafe fn append_each<T>(
        &mut self,
        values: impl Iterator<Item = (usize, *const u8)>,
        read: impl Fn(*const u8) -> T,
    ) {
        for (row, value) in values {
            // SAFETY: as promised by the caller.
            unsafe {
                match value.is_null() {
                    true => self.append_null(row),
                    false => self.store(row, read(value)),
                }
            }
        }
    }
}
