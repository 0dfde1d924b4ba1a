#!/usr/bin/env bash
# pyarrow 26.0.1: read_dictionary collects every text of a row group, and copies all with each batch.
#
# What runs: 20,000 texts of 3,000 letters without repetition (57 MiB) are written by write_table's
# defaults, in one row group: a dictionary page, and behind it pages of plain texts, as the dictionary has
# overflowed. A fresh process reads them by iter_batches(256), another one with read_dictionary=["text"];
# each prints by how much its resident memory grew at most, and its CPU seconds.
# Seen: read plainly it grows by some 50 MiB, most of it the allocator's, whatever the texts' size. With
# read_dictionary by four to five times the texts' size: each plain text is added to the dictionary, which
# is not emptied after a batch, though a comment in the reader says so; and each batch brings the whole of
# it, so that time grows with the square of the row group (458 MiB: 1,868 MiB and 12 CPU-s, beside 47 MiB
# and 1.3).
# Hoped for: a batch's dictionary holds what the batch needs, or the texts of plain pages are not kept.
#
# It needs Linux, Python 3.10 or later and PyPI, and ends with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet "pyarrow==26.0.1"
cat > "$folder/read.py" <<'PYTHON'
import sys
import time

import pyarrow.parquet as parquet


def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


before, started = status("VmRSS"), time.process_time()
file = parquet.ParquetFile(sys.argv[1], read_dictionary=sys.argv[2:], pre_buffer=False, buffer_size=2**20)
rows = sum(batch.num_rows for batch in file.iter_batches(256, use_threads=False))
print(round(status("VmHWM") - before), round(time.process_time() - started, 2), rows)
PYTHON
python="$folder/environment/bin/python"
"$python" - "$folder/texts.parquet" <<'PYTHON'
import os
import sys

import pyarrow
import pyarrow.parquet as parquet

texts = [os.urandom(1500).hex() for _ in range(20_000)]
parquet.write_table(pyarrow.table({"text": texts}), sys.argv[1])
PYTHON
read -r plain plain_seconds rows < <("$python" "$folder/read.py" "$folder/texts.parquet")
read -r kept kept_seconds kept_rows < <("$python" "$folder/read.py" "$folder/texts.parquet" text)
echo "plainly: $plain MiB more, $plain_seconds CPU-s for $rows rows"
echo "read_dictionary: $kept MiB more, $kept_seconds CPU-s for $kept_rows rows"
[ "$kept" -gt 150 ] && [ "$kept" -gt $((2 * plain)) ] || { echo "this has changed"; exit 1; }
echo "still so: 57 MiB of texts take $kept MiB"
