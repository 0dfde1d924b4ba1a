"""One of two ranks of which the first waits in a collective: `python -m` this, RANK and FOLDER.

In a process of its own: what is forked from a worker of pytest has the record of its tests too.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from launch.flight import write_flight_records
from trainer.recovery.flight import PIPE, answer_when_asked, missing

_TRIES = 500


def main() -> None:
    """Wait in the second collective, as the first rank; else ask until that is seen."""
    number, folder = int(sys.argv[1]), Path(sys.argv[2])
    pipes = {rank: folder / f"flight-{rank}" for rank in (0, 1)}
    os.environ[PIPE] = str(pipes[number])
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=number, world_size=2
    )
    answer_when_asked()
    ones = torch.ones(3)
    dist.all_reduce(ones)
    path = folder / "collectives.json"
    tries = 0 if number == 0 else _TRIES
    for _ in range(tries):
        written = write_flight_records(pipes, path)
        records = json.loads(path.read_text()) if path.exists() else {}
        said = missing({int(rank): own for rank, own in records.items()})
        # The recorder gives its counts and its entries one after the other.
        if said and records["0"][0]["last"][-1]["collective_seq_id"] == 2:
            (folder / "said").write_text(f"{said}{written}")
            break
    dist.all_reduce(ones)


if __name__ == "__main__":
    main()
