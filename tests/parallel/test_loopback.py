"""Local ranks meet where no other machine can come."""

import os
from pathlib import Path

from launch.ranks import run_ranks
from tests.launch.test_ranks import recorded

LOOPBACK = "0100007F"
"""127.0.0.1 as /proc/net/tcp has it."""


def listening() -> set[str]:
    """The local addresses at which this process listens, as /proc has them."""
    inodes = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1].partition(":")[0])
    return found


def test_the_ranks_listen_on_loopback_alone(tmp_path: Path) -> None:
    """Catches a store that anybody in the network may read and write, as torch's own is."""

    def worker() -> int:
        import json

        import torch.distributed as dist

        from trainer.parallel.join import join_ranks

        join_ranks("cpu")
        dist.barrier()
        path = tmp_path / f"{os.environ['RANK']}.json"
        path.write_text(json.dumps(sorted(listening())))
        dist.barrier()
        dist.destroy_process_group()
        return 0

    assert run_ranks(worker, 2, "cpu") == 0
    assert recorded(tmp_path) == [[LOOPBACK], [LOOPBACK]]
