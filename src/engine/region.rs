//! The shared memory that event batches lie in, as the engine reads it.

use arrow_array::RecordBatch;
use arrow_buffer::MutableBuffer;
use persona_core::protocol::region::{Placed, REGION_BYTES};
use persona_core::{Error, ErrorKind, Result};
use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;

pub struct Region(File);

impl Region {
    /// Takes over the descriptor that a job names. One that is not open shows when it is read.
    pub fn open(descriptor: i32) -> Result<Self> {
        if descriptor <= 2 {
            return Err(protocol("the region has no descriptor of its own"));
        }
        // SAFETY: a number that the other process says was inherited for us; nothing else here has it.
        Ok(Region(unsafe { File::from_raw_fd(descriptor) }))
    }

    /// A copy of the batch: its place may be written again as soon as this returns.
    pub fn read(&self, placed: &Placed) -> Result<RecordBatch> {
        let inside = |&bytes: &usize| placed.start.checked_add(bytes).is_some_and(|end| end <= REGION_BYTES);
        let Some(bytes) = placed.layout.bytes().filter(inside) else {
            return Err(protocol("a batch lies outside of the region"));
        };
        let mut copy = MutableBuffer::from_len_zeroed(bytes);
        self.0
            .read_exact_at(&mut copy, placed.start as u64)
            .map_err(|e| protocol(format!("could not read an event batch: {e}")))?;
        placed.layout.read(copy.into())
    }
}

fn protocol(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Protocol, message)
}
