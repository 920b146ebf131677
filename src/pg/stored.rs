//! Rows as a heap stores them, read where they lie: those of a page together, a column after the other.
//!
//! To take a row apart into an array of datums and to put these into columns moves each value twice, and asks of each what
//! it is. Here that is asked once for a column and page. Where values lie is what `heap_deform_tuple` says
//! (access/common/heaptuple.c); it is the same in all versions of Postgres, because pages are.

use super::columns::{Columns, Stored};
use pgrx::{PgTupleDesc, pg_sys};
use std::ptr;

/// The most rows that wait: more than a page of 8 KB holds.
const MOST: usize = 512;

const NO_PAGE: pg_sys::Buffer = pg_sys::InvalidBuffer as pg_sys::Buffer;

/// Rows that are stored, waiting to be read together.
pub struct StoredRows {
    /// By column: which of a row's attributes it reads.
    places: Vec<usize>,
    shape: Shape,
    /// The page of the rows that wait, which is pinned.
    page: pg_sys::Buffer,
    waiting: Vec<Row>,
    /// Some row that waits has NULLs.
    nulls: bool,
    /// Where each row's value begins, or none, and where what follows it may.
    starts: Vec<*const u8>,
    ends: Vec<usize>,
}

/// What became of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It waits.
    Waits,
    /// It is on another page than those that wait, or they are many: [`StoredRows::turn`] first.
    NotYet,
    /// It is not read in this way.
    No,
}

/// How rows of one descriptor lie in memory.
struct Shape {
    of: pg_sys::TupleDesc,
    /// Up to the last that is read; none where rows are not read in this way.
    attributes: Option<Vec<Attribute>>,
}

/// What is stored one after the other.
struct Attribute {
    /// The column that reads it.
    column: Option<usize>,
    /// Where it begins in a row without NULLs; none where that depends on what comes before.
    fixed: Option<usize>,
    /// It begins on a multiple of this power of two.
    alignment: usize,
    /// Bytes; none where each value says its own.
    length: Option<usize>,
    form: Stored,
}

#[derive(Clone, Copy)]
struct Row {
    header: pg_sys::HeapTupleHeader,
    data: *const u8,
}

impl StoredRows {
    pub fn new(places: Vec<usize>) -> Self {
        StoredRows {
            places,
            shape: Shape { of: ptr::null_mut(), attributes: None },
            page: NO_PAGE,
            waiting: Vec::with_capacity(MOST),
            nulls: false,
            starts: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// How many rows wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Has the slot's row wait, if it can.
    ///
    /// # Safety
    /// The slot holds a row with all attributes that are read, of the types that the columns were made for.
    #[inline]
    pub unsafe fn take(&mut self, slot: *mut pg_sys::TupleTableSlot) -> Taken {
        // SAFETY: as promised by the caller; a slot of these operations is a BufferHeapTupleTableSlot, and its tuple lies
        // in its buffer if it has one.
        unsafe {
            if (*slot).tts_ops != &raw const pg_sys::TTSOpsBufferHeapTuple {
                return Taken::No;
            }
            let (page, tuple) = {
                let slot = slot.cast::<pg_sys::BufferHeapTupleTableSlot>();
                ((*slot).buffer, (*slot).base.tuple)
            };
            if page == NO_PAGE || tuple.is_null() {
                return Taken::No;
            }
            if !self.is_at(slot) || self.waiting.len() == MOST {
                return Taken::NotYet;
            }
            match self.wait((*tuple).t_data) {
                true => Taken::Waits,
                false => Taken::No,
            }
        }
    }

    /// Whether rows of the slot's page and shape can wait.
    ///
    /// # Safety
    /// The slot is of an access method's scan.
    pub unsafe fn is_at(&self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: as promised by the caller; a slot of these operations is a BufferHeapTupleTableSlot.
        unsafe {
            (*slot).tts_ops == &raw const pg_sys::TTSOpsBufferHeapTuple
                && (*slot.cast::<pg_sys::BufferHeapTupleTableSlot>()).buffer == self.page
                && (*slot).tts_tupleDescriptor == self.shape.of
        }
    }

    /// Has one more row of the page wait; false where it is not read in this way.
    ///
    /// # Safety
    /// It is a row of the page and the shape that were turned to.
    #[inline]
    pub unsafe fn wait(&mut self, header: pg_sys::HeapTupleHeader) -> bool {
        let Some(attributes) = &self.shape.attributes else { return false };
        // SAFETY: as promised by the caller.
        unsafe {
            let mask = u32::from((*header).t_infomask);
            // Columns that were added to the table later are not there; what lies elsewhere may be of any size.
            let stored = usize::from((*header).t_infomask2) & pg_sys::HEAP_NATTS_MASK as usize;
            if stored < attributes.len() || mask & pg_sys::HEAP_HASEXTERNAL != 0 {
                return false;
            }
            self.nulls |= mask & pg_sys::HEAP_HASNULL != 0;
            let data = header.cast::<u8>().add(usize::from((*header).t_hoff));
            self.waiting.push(Row { header, data });
        }
        true
    }

    /// Appends the rows that wait to the batch, and turns to the page of the slot's row.
    ///
    /// # Safety
    /// As [`StoredRows::read`]; [`StoredRows::take`] said that the row cannot wait yet.
    pub unsafe fn turn(&mut self, slot: *mut pg_sys::TupleTableSlot, columns: &mut Columns) {
        // SAFETY: as promised by the caller; the slot has pinned its page.
        unsafe {
            self.read(columns);
            self.leave();
            if (*slot).tts_tupleDescriptor != self.shape.of {
                self.shape = shape((*slot).tts_tupleDescriptor, &self.places);
            }
            let page = (*slot.cast::<pg_sys::BufferHeapTupleTableSlot>()).buffer;
            pg_sys::IncrBufferRefCount(page);
            self.page = page;
        }
    }

    /// Appends the rows that wait to the batch.
    ///
    /// # Safety
    /// The batch has room for them.
    pub unsafe fn read(&mut self, columns: &mut Columns) {
        if !self.waiting.is_empty() {
            // SAFETY: as promised by the caller; the rows are of the shape, and their page is pinned.
            unsafe { self.read_attributes(columns) };
            self.waiting.clear();
        }
        self.nulls = false;
    }

    /// Lets the page go; no row waits.
    pub fn leave(&mut self) {
        if self.page != NO_PAGE {
            // SAFETY: it was pinned when its first row came, by the same resource owner.
            unsafe { pg_sys::ReleaseBuffer(self.page) };
            self.page = NO_PAGE;
        }
    }

    /// # Safety
    /// As [`StoredRows::read`]; all rows that wait are of the shape.
    unsafe fn read_attributes(&mut self, columns: &mut Columns) {
        let StoredRows { shape, waiting, nulls, starts, ends, .. } = self;
        // Where the next value may begin: in all rows alike, until lengths differ.
        let mut end = (!*nulls).then_some(0);
        ends.clear();
        ends.resize(waiting.len(), 0);
        for (place, attribute) in shape.attributes.iter().flatten().enumerate() {
            // SAFETY: as promised by the caller; what is added is within a row.
            unsafe {
                let fixed = attribute.fixed.filter(|_| end.is_some());
                if let (Some(start), Some(length)) = (fixed, attribute.length) {
                    end = Some(start + length);
                    if let Some(column) = attribute.column {
                        columns.put_stored(column, waiting.iter().map(|row| row.data.add(start)), attribute.form);
                    }
                    continue;
                }
                if let Some(end) = end.take() {
                    ends.fill(end);
                }
                starts.clear();
                starts.extend(waiting.iter().zip(ends.iter_mut()).map(|(row, end)| {
                    match *nulls && row.is_null(place) {
                        true => ptr::null(),
                        false => attribute.start(row, end),
                    }
                }));
                if let Some(column) = attribute.column {
                    columns.put_stored(column, starts.iter().copied(), attribute.form);
                }
            }
        }
        columns.end_rows(waiting.len());
    }
}

impl Row {
    /// # Safety
    /// The row has such an attribute.
    unsafe fn is_null(&self, place: usize) -> bool {
        // SAFETY: as promised by the caller: a row that has NULLs has a bit for each of its attributes.
        unsafe {
            let has_nulls = u32::from((*self.header).t_infomask) & pg_sys::HEAP_HASNULL != 0;
            let bits = (&raw const (*self.header).t_bits).cast::<u8>();
            has_nulls && *bits.add(place / 8) & (1 << (place % 8)) == 0
        }
    }
}

impl Attribute {
    /// Where it begins in a row in which what comes before ends at `end`, which moves to where it ends.
    ///
    /// # Safety
    /// The row has this attribute there, and it is not NULL.
    #[inline]
    unsafe fn start(&self, row: &Row, end: &mut usize) -> *const u8 {
        let aligned = (*end + self.alignment - 1) & !(self.alignment - 1);
        // SAFETY: as promised by the caller.
        unsafe {
            match self.length {
                Some(length) => {
                    *end = aligned + length;
                    row.data.add(aligned)
                }
                None => {
                    // A value with a header of one byte, which is not 0, is not aligned.
                    let start = if *row.data.add(*end) != 0 { *end } else { aligned };
                    let value = row.data.add(start);
                    *end = start + pgrx::varsize_any(value.cast());
                    value
                }
            }
        }
    }
}

/// # Safety
/// The descriptor is valid, and has attributes in these places.
#[cold]
unsafe fn shape(of: pg_sys::TupleDesc, places: &[usize]) -> Shape {
    // SAFETY: as promised by the caller.
    let described = unsafe { PgTupleDesc::from_pg_copy(of) };
    let mut end = Some(0);
    let attribute = |place: usize| {
        let stored = described.get(place)?;
        let mut readers = (0..places.len()).filter(|&column| places[column] == place);
        let column = readers.next();
        if readers.next().is_some() {
            return None;
        }
        let alignment = match stored.attalign as u8 {
            b'c' => 1,
            b's' => 2,
            b'i' => 4,
            b'd' => 8,
            _ => return None,
        };
        let form = match (stored.attbyval, stored.attlen) {
            (true, 1) => Stored::Value1,
            (true, 2) => Stored::Value2,
            (true, 4) => Stored::Value4,
            (true, 8) => Stored::Value8,
            (false, -1 | 1..) => Stored::Reference,
            _ => return None,
        };
        let length = usize::try_from(stored.attlen).ok();
        let fixed = end.filter(|_| length.is_some()).map(|end: usize| end.next_multiple_of(alignment));
        end = fixed.zip(length).map(|(start, length)| start + length);
        Some(Attribute { column, fixed, alignment, length, form })
    };
    let width = places.iter().map(|place| place + 1).max().unwrap_or(0);
    Shape { of, attributes: (0..width).map(attribute).collect() }
}
