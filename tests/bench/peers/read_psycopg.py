"""psycopg: binary COPY into Python's own values, then pandas.

Times are read as the bigint that they are on the wire: datetime objects would take three times as
long as everything else together.
"""

import pandas as pd
import psycopg
from common import ARGUMENTS, finish, part
from sequences import COLUMNS, QUERY, sequences

with part("fetch"), psycopg.connect(ARGUMENTS["conninfo"]) as connection:
    query = QUERY.format(table=ARGUMENTS["table"])
    with connection.cursor().copy(f"COPY ({query}) TO STDOUT (FORMAT binary)") as copy:
        copy.set_types(["int8", "int8", "int4", "text", "float4"])
        frame = pd.DataFrame.from_records(copy.rows(), columns=COLUMNS)
with part("sequence"):
    made = sequences(frame)
finish(rows=len(frame), entities=made["entities"])
