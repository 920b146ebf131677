"""ConnectorX into pandas, on as many connections as there are cores."""

from urllib.parse import quote

import connectorx
from common import ARGUMENTS, THREADS, finish, part
from sequences import QUERY, sequences

uri = f"postgresql://postgres@{quote(ARGUMENTS['home'], safe='')}:5432/{ARGUMENTS['database']}"
with part("fetch"):
    frame = connectorx.read_sql(
        uri, QUERY.format(table=ARGUMENTS["table"]), partition_on="entity", partition_num=THREADS
    )
with part("sequence"):
    made = sequences(frame)
finish(rows=len(frame), entities=made["entities"])
