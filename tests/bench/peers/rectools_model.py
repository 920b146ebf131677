"""RecTools' SASRec of the size that persona trains, on the CPU, with the time of its epochs.

Its trainer is the one that it makes by itself (no logger, no checkpoints), with a callback.
"""

import time
import warnings

import pandas as pd
import torch
from common import ARGUMENTS, THREADS
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

warnings.filterwarnings("ignore")
torch.set_num_threads(THREADS)
seed_everything(1)

epochs: list[float] = []


class EpochTimer(Callback):
    """From an epoch's first batch being asked for until its last step is done."""

    def on_train_epoch_start(self, *_):
        self.begun = time.perf_counter()

    def on_train_epoch_end(self, *_):
        epochs.append(time.perf_counter() - self.begun)


def dataset(frame: pd.DataFrame) -> Dataset:
    at = frame["at"] if frame["at"].dtype.kind == "M" else pd.to_datetime(frame["at"], unit="s")
    return Dataset.construct(
        pd.DataFrame(
            {
                Columns.User: frame["entity"],
                Columns.Item: frame["item"],
                Columns.Weight: 1.0,
                Columns.Datetime: at,
            }
        )
    )


def model(batches: int | None = None) -> SASRecModel:
    """The model, untrained. With `batches` an epoch stops after so many: enough to ask it for vectors."""

    def trainer():
        return Trainer(
            max_epochs=1,
            min_epochs=1,
            deterministic=True,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            limit_train_batches=batches,
            callbacks=[EpochTimer()],
        )

    return SASRecModel(
        n_factors=64,
        n_blocks=ARGUMENTS.get("blocks", 1),
        n_heads=1,
        session_max_len=ARGUMENTS["length"],
        dropout_rate=0.3,
        batch_size=128,
        loss=ARGUMENTS.get("loss", "softmax"),
        n_negatives=ARGUMENTS.get("negatives", 256),
        lr=0.001,
        recommend_torch_device="cpu",
        get_trainer_func=trainer,
    )


def targets(frame: pd.DataFrame) -> int:
    """Events that an epoch predicts: of each user the newest `length`, and not the first of all."""
    lengths = frame.groupby("entity").size()
    return int((lengths.clip(upper=ARGUMENTS["length"] + 1) - 1).sum())
