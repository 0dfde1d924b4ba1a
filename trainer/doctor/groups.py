"""All groups, collectives, schedules and ways through a step, on one rank: its back end's paths.

python -m trainer.doctor.groups FILE [--device cpu|cuda|auto]. NCCL on a GPU, gloo on the CPU; never
run on NCCL yet. One JSON entry an attempt, renewed after each; exit code 1 where one failed.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from trainer.doctor.attempt import Attempt
from trainer.errors import LyceumError
from trainer.parallel.join import choose_device, create_layout, leave
from trainer.parallel.layout import Layout


def run_groups(device: torch.device, folder: Path) -> Iterator[Attempt]:
    """Every collective in every group of the layout, every way through a step, sends to itself."""
    if device.type == "cpu":
        from trainer.parallel.cpu import use_cpu

        use_cpu()  # before megatron-core is imported
    from trainer.doctor.collectives import try_collectives, try_sending
    from trainer.doctor.paths import try_paths

    with _groups(device, folder) as layout:
        yield from try_collectives(layout)
    yield from try_paths(device, folder)
    with _groups(device, folder) as layout:
        yield from try_sending(layout)


@contextlib.contextmanager
def _groups(device: torch.device, folder: Path) -> Iterator[Layout]:
    from trainer.doctor.paths import recipe_of

    layout = create_layout(recipe_of({}, device, folder))
    try:
        yield layout
    finally:
        leave()


def write(file: Path, device: torch.device, attempts: Sequence[Attempt]) -> None:
    """All attempts so far; what a later one breaks costs none of them."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    content = {
        "device": where,
        "backend": "nccl" if device.type == "cuda" else "gloo",
        "attempts": [asdict(one) for one in attempts],
    }
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main(words: Sequence[str] | None = None) -> int:
    """0 where nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m trainer.doctor.groups")
    parser.add_argument("file", type=Path)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    call = parser.parse_args(words)
    os.environ.setdefault("DS_LOG_LEVEL", "ERROR")
    try:
        device = choose_device(call.device)
    except LyceumError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    attempts: list[Attempt] = []
    with tempfile.TemporaryDirectory(prefix="lyceum-groups-") as folder:
        for one in _quietly(run_groups(device, Path(folder))):
            attempts.append(one)
            print(f"{one.case}: {one.state} ({one.reason})", flush=True)
            write(call.file, device, attempts)
    return int(any(one.state == "failed" for one in attempts))


def _quietly(attempts: Iterator[Attempt]) -> Iterator[Attempt]:
    """Without what the runs print."""
    while True:
        with contextlib.redirect_stdout(None):
            one = next(attempts, None)
        if one is None:
            return
        yield one


if __name__ == "__main__":
    sys.exit(main())
