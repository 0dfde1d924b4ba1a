"""RUN/environment.json: the software and hardware that a run was trained with."""

import os
import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from trainer.addresses import redacted_values
from trainer.recovery.status_file import write_json

ENVIRONMENT = "environment.json"

_PACKAGES = (
    "lyceum",
    "torch",
    "triton",
    "megatron-core",
    "deepspeed",
    "flash-attn",
    "webdataset",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "pydantic",
)
_SOURCE = Path(__file__).resolve().parents[2]


def environment() -> dict[str, Any]:
    """Versions, hardware, git revision and command line of this process, as JSON values."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "command": redacted_values(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "cpu": {"name": _cpu_name(), "cores": _cores()},
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "driver": _driver(),
        "git": git_revision(_SOURCE),
    }


def write_environment(run_dir: Path, ranks: int) -> None:
    """Write RUN/environment.json, with the number of ranks, in all and on this node.

    Raises TrainingError where it cannot be written.
    """
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world = {"ranks": ranks, "ranks_a_node": here}
    write_json(Path(run_dir) / ENVIRONMENT, environment() | world)


def git_revision(source: Path) -> dict[str, Any] | None:
    """The commit checked out in `source`, and whether files differ from it (`dirty`).

    None where `source` is not the top of a git checkout (an installed package), or without git.
    """
    top = _git(source, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != source.resolve():
        return None
    revision = _git(source, "rev-parse", "HEAD")
    if revision is None:
        return None
    return {"revision": revision, "dirty": _git(source, "status", "--porcelain") != ""}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    """The processor's name, from /proc/cpuinfo, or elsewhere less exactly from `platform`."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _driver() -> str | None:
    try:
        return Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    except (OSError, IndexError):
        return None


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
