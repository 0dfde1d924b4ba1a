#!/usr/bin/env bash
# webdataset 1.0.2: a shard with a damaged header, or cut between two members, reads as a shorter one.
#
# What runs: WebDataset(shard) on a tar of five samples; on the same with one byte of the third sample's
# header changed; and on the same cut behind the third sample.
# Seen: five samples, then two, then three, each without an error or a warning. tarfile, which reads them,
# ends silently at a header whose checksum is wrong once one was right, and where a tar ends without the
# two blocks of zeros that should end it. A copy that broke off, or a bad sector, is then a smaller epoch.
# Hoped for: an error that names the shard, as for a cut inside a member; or a strict mode.
#
# It needs Python 3.10 to 3.13 and PyPI, and ends with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet "webdataset==1.0.2" "torch==2.13.0" "numpy==2.4.6"
cd "$folder"
"$folder/environment/bin/python" -W ignore - <<'PYTHON'
import tarfile
from importlib.metadata import version
from pathlib import Path

import webdataset

with webdataset.TarWriter("whole.tar") as writer:
    for number in range(5):
        writer.write({"__key__": f"{number:06d}", "txt": f"text {number}"})
content = Path("whole.tar").read_bytes()
with tarfile.open("whole.tar") as tar:
    headers = [member.offset for member in tar]
damaged = bytearray(content)
damaged[headers[2]] ^= 1
Path("damaged.tar").write_bytes(damaged)
Path("cut.tar").write_bytes(content[: headers[3]])
counts = {
    name: sum(1 for _ in webdataset.WebDataset(f"{name}.tar", shardshuffle=False))
    for name in ("whole", "damaged", "cut")
}
print(counts, "webdataset", version("webdataset"))
assert counts == {"whole": 5, "damaged": 2, "cut": 3}, "this has changed"
PYTHON
echo "still so: a damaged or cut shard is read as a shorter one"
