"""RecTools: one epoch."""

import events
import rectools_model
from common import add, finish

frame = events.training_part(events.fetch())
rectools_model.model().fit(rectools_model.dataset(frame))
add("epoch", rectools_model.epochs[0])
finish(targets=rectools_model.targets(frame))
