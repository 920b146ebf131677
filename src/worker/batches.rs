//! Event batches on their way to the engine: through the region, as long as they fit.

use super::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::pg::columns::Columns;
use crate::pg::region;
use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use persona_core::protocol::region::{Layout, Placed};
use persona_core::protocol::{ColumnWriter, Frame, Kind};

impl Engine {
    /// Sends one batch. Waits while the engine has not read what is in the region.
    pub fn send_batch(&mut self, columns: &mut Columns, large: &mut LargeBatches) -> Result<()> {
        let layout = columns.layout();
        let fits = |bytes: &usize| self.region.as_ref().is_some_and(|region| region.ring.fits(*bytes));
        if let Some(bytes) = layout.bytes().filter(fits) {
            self.read_stdout()?;
            while let Some(region) = &mut self.region {
                let Some(start) = region.ring.place(bytes) else {
                    self.await_room()?;
                    continue;
                };
                region::write(&region.file, start, columns.parts()).map_err(|e| cannot_write(&e))?;
                return self.send(&Frame::json(Kind::Placed, &Placed { start, layout })?);
            }
        }
        large.frames(&layout, columns)?.iter().try_for_each(|frame| self.send(frame))
    }
}

/// The stream of batches that are larger than the region, as one with texts of many megabytes, or that have none.
#[derive(Default)]
pub struct LargeBatches {
    stream: Option<ColumnWriter>,
}

impl LargeBatches {
    fn frames(&mut self, layout: &Layout, columns: &Columns) -> Result<Vec<Frame>> {
        let batch = copy(layout, columns)?;
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(ColumnWriter::new(Kind::Events, &batch.schema())?),
        };
        Ok(stream.write(&batch)?)
    }
}

/// The batch as Arrow has it, in memory of its own.
pub fn copy(layout: &Layout, columns: &Columns) -> Result<RecordBatch> {
    let bytes: Vec<u8> = columns.parts().flatten().copied().collect();
    Ok(layout.read(Buffer::from(bytes))?)
}

fn cannot_write(error: &std::io::Error) -> Error {
    Error::new(Code::Engine, format!("could not write an event batch: {error}"))
        .hint("Batches of events take up to 64 MB of shared memory while a source is scanned.")
}
