"""Writes one table of the Complete Journey data as CSV: load.py PARQUET

COPY reads it from a pipe: no file is written, and no row passes through Python.
"""

import sys

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet

with parquet.ParquetFile(sys.argv[1]) as file:
    options = csv.WriteOptions(include_header=False, quoting_style="needed")
    for batch in file.iter_batches(batch_size=100_000):
        csv.write_csv(pa.Table.from_batches([batch]), sys.stdout.buffer, options)
