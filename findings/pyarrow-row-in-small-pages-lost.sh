#!/usr/bin/env bash
# pyarrow 26.0.1: a table of one nested row, written in small data pages, is read as no rows, without an
# error.
#
# What runs: one row, a list of three structs of a string each, is written with data_page_size=4 and read
# back; then the same with data_page_size=1000, and the same with ten such rows.
# Seen: the first file's metadata say one row of three values, and reading it gives none, in silence; the
# others come back whole. From pages of 8 bytes on, or with use_dictionary=False, the row is read.
# Hoped for: the row, at any page size, or an error where rows are fewer than the metadata say.
#
# It needs Python 3.10 or later and PyPI, and ends with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet "pyarrow==26.0.1"
"$folder/environment/bin/python" - <<'PYTHON'
import io

import pyarrow
import pyarrow.parquet as parquet

row = [{"content": text} for text in ("one", "two", "three")]


def read(rows, data_page_size):
    file = io.BytesIO()
    table = pyarrow.table({"messages": [row] * rows})
    parquet.write_table(table, file, data_page_size=data_page_size)
    said = parquet.read_metadata(file).num_rows
    return said, parquet.ParquetFile(file).read().num_rows


print("pyarrow", pyarrow.__version__)
for rows, size in ((1, 4), (1, 1000), (10, 4)):
    said, found = read(rows, size)
    print(f"{rows} rows in pages of {size} bytes: metadata {said}, read {found}")
    assert said == rows and found == (0 if (rows, size) == (1, 4) else rows), "this has changed"
PYTHON
echo "still so: a row that the metadata count is not read"
