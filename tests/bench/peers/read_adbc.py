"""ADBC into Arrow, then pandas: the quickest way from Postgres into a frame that is published."""

import adbc_driver_postgresql.dbapi as adbc
from common import ARGUMENTS, finish, part
from sequences import QUERY, sequences

with part("fetch"), adbc.connect(ARGUMENTS["uri"]) as connection, connection.cursor() as cursor:
    cursor.execute(QUERY.format(table=ARGUMENTS["table"]))
    frame = cursor.fetch_arrow_table().to_pandas()
with part("sequence"):
    made = sequences(frame)
finish(rows=len(frame), entities=made["entities"])
