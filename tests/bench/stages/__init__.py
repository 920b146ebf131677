"""The stages, in the order in which they run. One is a function of a Bench that returns Results."""

from stages import connections, index, live, living, online, pipeline, read, recommend, scale, score, share, train, train_million

STAGES = {
    "read": read.run,
    "train-full": train.full,
    "train-sampled": train.sampled,
    "train-recurrent": train.recurrent,
    "train-ml1m": train.movielens,
    "train-million": train_million.run,
    "score": score.run,
    "index": index.run,
    "end-to-end": pipeline.run,
    "recommend": recommend.run,
    "scale": scale.run,
    "connections": connections.run,
    "share": share.run,
    "living": living.run,
    "live": live.run,
    "online": online.run,
}
