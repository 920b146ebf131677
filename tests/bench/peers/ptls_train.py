"""pytorch-lifestream: one epoch of its next-event module over its GRU, all items in the softmax.

GptPretrainModule is made for transformers, and its documentation allows recurrent encoders. Beside
persona's GRU it has a hidden layer before the softmax, and output vectors that are not the input's.
"""

import time
import warnings

import numpy as np
import torch
from common import ARGUMENTS, THREADS, add, finish
import events
from ptls.data_load.datasets import MemoryMapDataset
from ptls.frames.gpt import GptDataset, GptPretrainModule
from ptls.nn import RnnEncoder, TrxEncoder
from pytorch_lightning import Callback, Trainer, seed_everything

warnings.filterwarnings("ignore")
torch.set_num_threads(THREADS)
seed_everything(1)


class EpochTimer(Callback):
    def on_train_epoch_start(self, *_):
        self.begun = time.perf_counter()

    def on_train_epoch_end(self, *_):
        add("epoch", time.perf_counter() - self.begun)


frame = events.training_part(events.fetch())
codes = frame["item"].astype("category").cat.codes.to_numpy().astype(np.int64) + 1
starts = np.flatnonzero(np.diff(frame["entity"].to_numpy(), prepend=-1))
records = [{"item": torch.from_numpy(part)} for part in np.split(codes, starts[1:]) if len(part) >= 2]
length = ARGUMENTS["length"] + 1
loader = torch.utils.data.DataLoader(
    GptDataset(MemoryMapDataset(records), min_len=2, max_len=length),
    batch_size=128,
    shuffle=True,
    collate_fn=GptDataset.collate_fn,
)
module = GptPretrainModule(
    TrxEncoder(embeddings={"item": {"in": int(codes.max()) + 1, "out": 64}}, embeddings_noise=0),
    RnnEncoder(input_size=64, hidden_size=64, type="gru"),
    head_hidden_size=64,
    seed_seq_len=0,
    total_steps=10 * len(loader) + 100,
    max_lr=0.001,
)
Trainer(
    max_epochs=1,
    accelerator="cpu",
    devices=1,
    logger=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    enable_checkpointing=False,
    callbacks=[EpochTimer()],
).fit(module, loader)
finish(targets=sum(min(len(record["item"]), length) - 1 for record in records))
