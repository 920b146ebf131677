//! The shared memory that event batches lie in, as the engine reads it.

use arrow_array::RecordBatch;
use arrow_buffer::{Buffer, MutableBuffer};
use persona_core::protocol::region::{Placed, REGION_BYTES};
use persona_core::{Error, Result};
use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;

/// Batches that wait to be collected.
pub const AHEAD: usize = 4;

/// Copies that are kept to be written again: as many as wait to be collected, and some that are being made and read.
const KEPT: usize = AHEAD + 4;

pub struct Region {
    file: File,
    /// Copies of batches, of which some are still in use.
    copies: Vec<Buffer>,
}

impl Region {
    /// Takes over the descriptor that a job names. One that is not open shows when it is read.
    pub fn open(descriptor: i32) -> Result<Self> {
        if descriptor <= 2 {
            return Err(Error::protocol("the region has no descriptor of its own"));
        }
        // SAFETY: a number that the other process says was inherited for us; nothing else here has it.
        Ok(Region { file: unsafe { File::from_raw_fd(descriptor) }, copies: Vec::new() })
    }

    /// A copy of the batch: its place may be written again as soon as this returns.
    pub fn read(&mut self, placed: &Placed) -> Result<RecordBatch> {
        let inside = |&bytes: &usize| placed.start.checked_add(bytes).is_some_and(|end| end <= REGION_BYTES);
        let Some(bytes) = placed.layout.bytes().filter(inside) else {
            return Err(Error::protocol("a batch lies outside of the region"));
        };
        let mut copy = self.unused();
        copy.resize(bytes, 0);
        self.file
            .read_exact_at(&mut copy, placed.start as u64)
            .map_err(|e| Error::protocol(format!("could not read an event batch: {e}")))?;
        let copy = Buffer::from(copy);
        if self.copies.len() < KEPT {
            self.copies.push(copy.clone());
        }
        placed.layout.read(copy)
    }

    /// Memory for a copy; that of one which nobody has any more is there already, and likely in the cache.
    fn unused(&mut self) -> MutableBuffer {
        let unused = self.copies.iter().position(|copy| copy.strong_count() == 1);
        let copy = unused.and_then(|i| self.copies.swap_remove(i).into_mutable().ok());
        copy.unwrap_or_else(|| MutableBuffer::new(0))
    }
}
