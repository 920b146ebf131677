"""The whole pipeline without persona: ADBC, pandas, RecTools' epoch, vectors by COPY, HNSW indexes."""

import events
import psycopg
import rectools_model
from common import ARGUMENTS, finish, part
from pgvector import HalfVector
from pgvector.psycopg import register_vector

DIM = 64


def write(session: psycopg.Connection, table: str, operators: str, keys, vectors) -> None:
    """A table as persona's: key, half vectors, primary key and HNSW index."""
    with part("write"):
        session.execute(f"CREATE TABLE {table} (key bigint NOT NULL, embedding halfvec({DIM}) NOT NULL)")
        with session.cursor().copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int8", "halfvec"])
            for key, vector in zip(keys, vectors):
                copy.write_row((int(key), HalfVector(vector)))
    with part("index"):
        session.execute(f"ALTER TABLE {table} ADD PRIMARY KEY (key)")
        session.execute(f"CREATE INDEX ON {table} USING hnsw (embedding halfvec_{operators}_ops)")


with part("read"):
    frame = events.fetch()
with part("prepare"):
    dataset = rectools_model.dataset(events.training_part(frame))
    everything = rectools_model.dataset(frame)
    model = rectools_model.model()
with part("train"):
    model.fit(dataset)
with part("score"):
    # What RecTools' own recommend does before it ranks.
    users = frame["entity"].unique()
    scored = model.data_preparator.transform_dataset_u2i(everything, users)
    loader = model.data_preparator.get_dataloader_recommend(scored, 256)
    profiles, items = model.lightning_model._get_user_item_embeddings(loader, "cpu")
    known = model.data_preparator.get_known_items_sorted_internal_ids()
    names = model.data_preparator.item_id_map.convert_to_external(known)
with psycopg.connect(ARGUMENTS["conninfo"]) as session:
    register_vector(session)
    session.execute("DROP TABLE IF EXISTS pipeline_profile, pipeline_profile_items")
    write(session, "pipeline_profile", "cosine", scored.user_id_map.external_ids, profiles.numpy())
    write(session, "pipeline_profile_items", "ip", names, items[known].numpy())
    with part("write"):
        session.commit()
finish(users=len(profiles), items=len(known))
