//! Events that a version's generator draws, in the form of its source's.

use crate::error::Result;
use crate::models::Model;
use crate::report::{INTERVAL, Reporter};
use persona_core::features::Fitted;
use persona_core::protocol::{ColumnWriter, Kind, Phase, Progress, Synthesis};
use persona_core::source::SourceSchema;
use persona_core::synthesis::Decoder;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Entities that are drawn side by side.
const TOGETHER: u64 = 512;

/// Sends the events of new entities; returns their number.
pub fn send(
    model: &Model,
    fitted: &Fitted,
    schema: &SourceSchema,
    synthesis: Synthesis,
    reporter: &mut Reporter,
) -> Result<u64> {
    let generator = &model.gan()?.generator;
    let decoder = Decoder::new(fitted, schema);
    let mut rng = ChaCha8Rng::seed_from_u64(synthesis.seed);
    let mut writer = ColumnWriter::new(Kind::Synthetic, &schema.arrow())?;
    let mut events = 0;
    for first in (0..synthesis.entities).step_by(TOGETHER as usize) {
        let entities = TOGETHER.min(synthesis.entities - first);
        let (drawn, _) = generator.draw(entities as usize, &mut rng, &model.compute)?;
        events += drawn.events() as u64;
        for frame in writer.write(&decoder.rows(&drawn, first + 1, &mut rng)?)? {
            reporter.frame(frame)?;
        }
        if reporter.due(INTERVAL) {
            reporter.tell(Progress::of(Phase::Synthesize, first + entities, synthesis.entities))?;
        }
    }
    Ok(events)
}
