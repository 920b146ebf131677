"""Events of (entity, at, item) as RecTools and ptls want them, fetched by ADBC."""

import adbc_driver_postgresql.dbapi as adbc
import pandas as pd
from common import ARGUMENTS


def fetch() -> pd.DataFrame:
    """All events, in the order of entity and time, with codes of 1.. for entities and items."""
    with adbc.connect(ARGUMENTS["uri"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT {entity} AS entity, {at} AS at, {item} AS item FROM {table}".format(**ARGUMENTS))
        frame = cursor.fetch_arrow_table().to_pandas()
    return frame.sort_values(["entity", "at"], kind="stable", ignore_index=True)


def training_part(frame: pd.DataFrame) -> pd.DataFrame:
    """Without each entity's last two events, which validate and test; whole where there are only two."""
    of_entity = frame.groupby("entity")["item"]
    length, left = of_entity.transform("size"), of_entity.cumcount(ascending=False)
    return frame[(left >= 2) | (length < 3)]
