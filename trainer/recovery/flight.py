"""PyTorch's flight recorder of a rank: its last collectives, written when the launcher asks.

The recorder (torch.distributed's, for gloo and NCCL alike) numbers each group's collectives: a rank
that has entered fewer than the others is the one that they wait for. A thread waits at a pipe of
the launcher's; it answers however deep the rank hangs in a collective, which lets it run.
"""

import json
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainer.files import write_whole

PIPE = "LYCEUM_FLIGHT_PIPE"
"""Environment variable: the pipe at which this rank is asked; the answer lies beside it."""
_DUMPS = ("_dump_fr_trace_json", "_dump_nccl_trace_json")
_ENTRY = ("profiling_name", "state", "collective_seq_id", "p2p_seq_id", "input_sizes")
_LAST = 20
"""Collectives of a rank that are written."""


def answer_when_asked() -> None:
    """Let the launcher have this rank's record whenever it asks."""
    pipe = os.environ.get(PIPE)
    if pipe and Path(pipe).exists():
        target = (Path(pipe),)
        threading.Thread(target=_answer, args=target, daemon=True, name="flight").start()


def answer_of(pipe: Path) -> Path:
    """The file of a rank's answer."""
    return pipe.with_name(f"{pipe.name}.json")


def _answer(pipe: Path) -> None:
    with suppress(OSError):  # the launcher's folder is gone, and so is the launcher
        while True:
            with pipe.open("rb") as asked:
                asked.read()  # returns as soon as the launcher has come and gone
            write_whole(answer_of(pipe), json.dumps(_records()), durable=False)


def _records() -> list[dict[str, Any]]:
    """Of each recorder that there is: groups with their counts, and the last collectives."""
    import torch._C._distributed_c10d as recorders

    found = []
    for name in _DUMPS:
        dump: Callable[[], bytes] | None = getattr(recorders, name, None)
        content = json.loads(dump()) if dump is not None else {}
        if content.get("entries"):
            last = [{k: one[k] for k in _ENTRY if k in one} for one in content["entries"][-_LAST:]]
            found.append({"recorder": name, "groups": content["pg_status"], "last": last})
    return found


def entered(records: list[dict[str, Any]]) -> dict[str, int]:
    """How many collectives of each group a rank has entered, by the group's name."""
    counts: dict[str, int] = {}
    for record in records:
        for group, status in record["groups"].items():
            count = int(status.get("last_enqueued_collective", -1))
            counts[group] = max(count, counts.get(group, -1))
    return counts


def missing(records: Mapping[int, list[dict[str, Any]]]) -> str:
    """Which ranks have entered fewer collectives of a group than others, in words; "": none."""
    counts = {rank: entered(own) for rank, own in records.items()}
    for group in sorted({group for own in counts.values() for group in own}):
        known = {rank: own[group] for rank, own in counts.items() if own.get(group, -1) > 0}
        if len(set(known.values())) > 1:
            most = max(known.values())
            late = [f"rank {rank} {count}" for rank, count in known.items() if count < most]
            return f"of the {most} collectives of group {group} entered: {', '.join(late)}"
    return ""
