"""RecTools: ten recommendations for every user, by a model that has taken one step.

The weights do not change how long it takes. The clock sees `recommend` alone: neither reading the
events nor writing what comes out.
"""

import events
import rectools_model
from common import finish, part

frame = events.fetch()
dataset = rectools_model.dataset(frame)
model = rectools_model.model(batches=1)
model.fit(dataset)
users = frame["entity"].unique()
with part("recommend"):
    model.recommend(users=users, dataset=dataset, k=10, filter_viewed=False)
finish(users=len(users))
