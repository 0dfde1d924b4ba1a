"""`lyceum doctor --self-test`: is this machine right? Every check that one rank can make.

NCCL on a GPU, gloo on the CPU.
"""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from trainer.doctor.check import Check
from trainer.errors import ClusterError, RecipeError
from trainer.files import write_output
from trainer.parallel.join import choose_device, create_layout, leave
from trainer.parallel.layout import Layout


def doctor_command(self_test: bool, device: str = "auto", json_file: Path | None = None) -> None:
    """Print a line a check, and write all of them to `json_file`, renewed after each.

    `device`: auto, cpu or cuda. Raises ClusterError where one failed, RecipeError without
    `self_test` (there is nothing else yet), without that device, or where the file cannot be
    written.
    """
    if not self_test:
        raise RecipeError("doctor: has no other checks yet than those of --self-test; give it")
    chosen = choose_device(device)
    os.environ.setdefault("DS_LOG_LEVEL", "ERROR")
    checks: list[Check] = []
    _write(json_file, chosen, checks)  # before anything runs: else the results have nowhere to go
    shown = sys.stdout
    with tempfile.TemporaryDirectory() as folder, _quiet_runs():
        for one in run_self_test(chosen, Path(folder)):
            checks.append(one)
            print(f"{one.name}: {one.state} ({one.reason})", file=shown, flush=True)
            _write(json_file, chosen, checks)
    failed = [one for one in checks if one.state == "failed"]
    if failed:
        raise ClusterError(
            f"doctor: {len(failed)} of {len(checks)} checks failed, the first: {failed[0].name}: "
            f"{failed[0].reason}"
        )
    print(f"{len(checks)} checks, none failed")


@contextlib.contextmanager
def _quiet_runs() -> Iterator[None]:
    """Show nothing of the runs but warnings.

    Limited are the handlers, not the logger, whose level a run sets for its own log file.
    """
    handlers = [(handler, handler.level) for handler in logging.getLogger().handlers]
    try:
        for handler, level in handlers:
            handler.setLevel(max(level, logging.WARNING))
        with contextlib.redirect_stdout(None):
            yield
    finally:
        for handler, level in handlers:
            handler.setLevel(level)


def run_self_test(device: torch.device, folder: Path) -> Iterator[Check]:
    """Collectives in every group, every way through a step and its waits, sends to itself."""
    if device.type == "cpu":
        from trainer.parallel.cpu import use_cpu

        use_cpu()  # before megatron-core is imported
    from trainer.doctor.collectives import check_collectives, check_sending
    from trainer.doctor.paths import check_paths
    from trainer.doctor.waits import check_waits

    with _layout(device, folder) as layout:
        yield from check_collectives(layout)
    yield from check_paths(device, folder / "paths")
    yield from check_waits(device, folder / "waits")
    with _layout(device, folder) as layout:
        yield from check_sending(layout)


@contextlib.contextmanager
def _layout(device: torch.device, folder: Path) -> Iterator[Layout]:
    from trainer.doctor.paths import recipe_of

    layout = create_layout(recipe_of({}, device, folder))
    try:
        yield layout
    finally:
        leave()


def _write(file: Path | None, device: torch.device, checks: Sequence[Check]) -> None:
    """All checks so far; what a later one breaks costs none of them."""
    content = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "backend": "nccl" if device.type == "cuda" else "gloo",
        "checks": [asdict(one) for one in checks],
    }
    write_output(file, content)
