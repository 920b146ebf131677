//! What a statement did to a table, as its AFTER trigger sees it: transition tables, row by row.

use super::columns::text_of;
use pgrx::pg_sys;
use std::collections::HashSet;
use std::ffi::{CStr, CString};

/// Values of one column in the rows that a statement touched, each once.
#[derive(Debug, PartialEq)]
pub enum Touched {
    /// No row.
    Nothing,
    Integers(Vec<i64>),
    Texts(Vec<String>),
    /// Rows whose column cannot be told: the table was emptied, or has no such column of a type that keys have.
    Unknown,
}

impl Touched {
    fn some<T>(values: Vec<T>, touched: fn(Vec<T>) -> Touched) -> Touched {
        if values.is_empty() { Touched::Nothing } else { touched(values) }
    }
}

/// A statement's trigger, with its arguments.
pub struct Statement(*mut pg_sys::TriggerData);

impl Statement {
    /// `None` where the function was not called as a trigger for each statement.
    pub fn of_call(fcinfo: pg_sys::FunctionCallInfo) -> Option<Statement> {
        // SAFETY: the trigger manager passes TriggerData as the context; its tag says so.
        unsafe {
            let context = (*fcinfo).context;
            let is_trigger = !context.is_null() && (*context).type_ == pg_sys::NodeTag::T_TriggerData;
            let data = context.cast::<pg_sys::TriggerData>();
            (is_trigger && (*data).tg_event & pg_sys::TRIGGER_EVENT_ROW == 0).then_some(Statement(data))
        }
    }

    /// The arguments that the trigger was created with.
    pub fn arguments(&self) -> Vec<String> {
        // SAFETY: a trigger has as many C strings as it says.
        unsafe {
            let trigger = (*self.0).tg_trigger;
            let argument = |i| CStr::from_ptr(*(*trigger).tgargs.add(i)).to_string_lossy().into_owned();
            (0..(*trigger).tgnargs as usize).map(argument).collect()
        }
    }

    pub fn relation(&self) -> pg_sys::Oid {
        // SAFETY: the table is open while its triggers run.
        unsafe { (*(*self.0).tg_relation).rd_id }
    }

    /// The column's values before and after the statement; rows where it is NULL are nobody's.
    pub fn touched(&self, column: Option<&str>) -> Touched {
        // SAFETY: the transition tables are those that the trigger was created with, or null; their rows are the table's.
        unsafe {
            let data = &*self.0;
            if data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_TRUNCATE {
                return Touched::Unknown;
            }
            let stores = || [data.tg_oldtable, data.tg_newtable].into_iter().filter(|store| !store.is_null());
            let row = (*data.tg_relation).rd_att;
            let place = column.and_then(|column| place(row, column));
            match place {
                Some((place, pg_sys::INT4OID)) => {
                    let read = |slot| word(slot, place).map(|word| i64::from(word.value() as i32));
                    Touched::some(distinct(stores(), row, read), Touched::Integers)
                }
                Some((place, pg_sys::INT8OID)) => {
                    let read = |slot| word(slot, place).map(|word| word.value() as i64);
                    Touched::some(distinct(stores(), row, read), Touched::Integers)
                }
                Some((place, pg_sys::UUIDOID)) => {
                    let read = |slot| word(slot, place).map(|word| uuid(word));
                    Touched::some(distinct(stores(), row, read), Touched::Texts)
                }
                Some((place, pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID)) => {
                    let read = |slot| word(slot, place).map(|word| text_of(word));
                    Touched::some(distinct(stores(), row, read), Touched::Texts)
                }
                _ => match stores().any(|store| each(store, row, |_| true)) {
                    true => Touched::Unknown,
                    false => Touched::Nothing,
                },
            }
        }
    }

    /// The least value of a column of times in rows that were added, as Postgres stores it; none where the statement did
    /// anything else, there are none, or such times are no whole numbers.
    pub fn earliest(&self, column: &str) -> Option<i64> {
        // SAFETY: as in `touched`.
        unsafe {
            let data = &*self.0;
            let added = data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_INSERT;
            if !added || data.tg_newtable.is_null() {
                return None;
            }
            let row = (*data.tg_relation).rd_att;
            let (place, oid) = place(row, column)?;
            let whole: fn(pg_sys::Datum) -> i64 = match oid {
                pg_sys::TIMESTAMPTZOID | pg_sys::TIMESTAMPOID | pg_sys::INT8OID => |word| word.value() as i64,
                pg_sys::DATEOID | pg_sys::INT4OID => |word| i64::from(word.value() as i32),
                pg_sys::INT2OID => |word| i64::from(word.value() as i16),
                _ => return None,
            };
            let mut earliest = None;
            each(data.tg_newtable, row, |slot| {
                if let Some(word) = word(slot, place) {
                    let at = whole(word);
                    earliest = Some(earliest.map_or(at, |earliest: i64| earliest.min(at)));
                }
                false
            });
            earliest
        }
    }
}

/// A column's number and its type under any domain.
unsafe fn place(row: pg_sys::TupleDesc, column: &str) -> Option<(i32, pg_sys::Oid)> {
    let name = CString::new(column).ok()?;
    // SAFETY: the name is a C string, and the descriptor has as many attributes as it says.
    unsafe {
        let number = pg_sys::SPI_fnumber(row, name.as_ptr());
        (number > 0).then(|| (number, pg_sys::getBaseType(pg_sys::SPI_gettypeid(row, number))))
    }
}

/// A column of a row, if it is not NULL.
unsafe fn word(slot: *mut pg_sys::TupleTableSlot, place: i32) -> Option<pg_sys::Datum> {
    // SAFETY: the slot has a row with such a column.
    unsafe {
        if i32::from((*slot).tts_nvalid) < place {
            pg_sys::slot_getsomeattrs_int(slot, place);
        }
        let at = place as usize - 1;
        (!*(*slot).tts_isnull.add(at)).then(|| *(*slot).tts_values.add(at))
    }
}

unsafe fn uuid(word: pg_sys::Datum) -> String {
    // SAFETY: a uuid datum points to its 16 bytes.
    let bytes = unsafe { *word.cast_mut_ptr::<[u8; 16]>() };
    pgrx::Uuid::from_bytes(bytes).to_string()
}

unsafe fn distinct<T: Eq + std::hash::Hash + Ord + Clone>(
    stores: impl Iterator<Item = *mut pg_sys::Tuplestorestate>,
    row: pg_sys::TupleDesc,
    read: impl Fn(*mut pg_sys::TupleTableSlot) -> Option<T>,
) -> Vec<T> {
    let mut seen = HashSet::new();
    for store in stores {
        // SAFETY: as the caller's.
        unsafe {
            each(store, row, |slot| {
                seen.extend(read(slot));
                false
            });
        }
    }
    let mut values: Vec<T> = seen.into_iter().collect();
    values.sort_unstable();
    values
}

/// Hands every row to `read` until one is enough; whether one was.
unsafe fn each(
    store: *mut pg_sys::Tuplestorestate,
    row: pg_sys::TupleDesc,
    mut read: impl FnMut(*mut pg_sys::TupleTableSlot) -> bool,
) -> bool {
    // SAFETY: a read pointer of our own, as every reader of a transition table takes one; the slot is for its form of rows.
    unsafe {
        let pointer = pg_sys::tuplestore_alloc_read_pointer(store, pg_sys::EXEC_FLAG_REWIND as i32);
        pg_sys::tuplestore_select_read_pointer(store, pointer);
        pg_sys::tuplestore_rescan(store);
        let slot = pg_sys::MakeSingleTupleTableSlot(row, &raw const pg_sys::TTSOpsMinimalTuple);
        let mut enough = false;
        while !enough && pg_sys::tuplestore_gettupleslot(store, true, false, slot) {
            enough = read(slot);
        }
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        enough
    }
}
