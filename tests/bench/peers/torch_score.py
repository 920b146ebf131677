"""PyTorch: events by ADBC, a plain nn.TransformerEncoder over padded batches, vectors back by binary COPY."""

import events
import numpy as np
import psycopg
import torch
from common import ARGUMENTS, THREADS, finish, part
from pgvector import HalfVector
from pgvector.psycopg import register_vector

torch.set_num_threads(THREADS)
DIM, LENGTH, BATCH = 64, ARGUMENTS["length"], 256


def batches(codes: np.ndarray, starts: np.ndarray):
    """[batch, length] of the newest events of each entity, padded in front with 0."""
    ends = np.append(starts[1:], len(codes))
    for first in range(0, len(starts), BATCH):
        padded = np.zeros((min(BATCH, len(starts) - first), LENGTH), dtype=np.int64)
        for row, (start, end) in enumerate(zip(starts[first : first + BATCH], ends[first : first + BATCH])):
            newest = codes[max(start, end - LENGTH) : end]
            padded[row, LENGTH - len(newest) :] = newest
        yield torch.from_numpy(padded)


def encoder(items: int) -> tuple[torch.nn.Embedding, torch.nn.Embedding, torch.nn.TransformerEncoder]:
    layer = torch.nn.TransformerEncoderLayer(DIM, 1, 4 * DIM, activation="gelu", batch_first=True, norm_first=True)
    body = torch.nn.TransformerEncoder(layer, ARGUMENTS["blocks"], enable_nested_tensor=False)
    return torch.nn.Embedding(items + 1, DIM, padding_idx=0), torch.nn.Embedding(LENGTH, DIM), body.eval()


def write(table: str, keys, vectors: np.ndarray) -> None:
    with psycopg.connect(ARGUMENTS["conninfo"], autocommit=True) as session:
        register_vector(session)
        session.execute(f"DROP TABLE IF EXISTS {table}")
        session.execute(f"CREATE TABLE {table} (key bigint NOT NULL, embedding halfvec({DIM}) NOT NULL)")
        with session.cursor().copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int8", "halfvec"])
            for key, vector in zip(keys.tolist(), vectors):
                copy.write_row((key, HalfVector(vector)))
        session.execute(f"ALTER TABLE {table} ADD PRIMARY KEY (key)")


with part("read"):
    frame = events.fetch()
    entities, starts = np.unique(frame["entity"].to_numpy(), return_index=True)
    items, codes = np.unique(frame["item"].to_numpy(), return_inverse=True)
embedding, positions, body = encoder(len(items))
causal = torch.nn.Transformer.generate_square_subsequent_mask(LENGTH)
with part("forward"), torch.inference_mode():
    places = positions(torch.arange(LENGTH))
    states = (
        body(embedding(batch) + places, mask=causal, is_causal=True)[:, -1] for batch in batches(codes + 1, starts)
    )
    vectors = torch.cat(list(states)).numpy()
with part("write"):
    write("torch_profile", entities, vectors)
    write("torch_items", items, embedding.weight[1:].detach().numpy())
finish(users=len(entities))
