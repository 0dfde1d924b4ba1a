"""The tile sizes of each kernel by chip and width; nothing is tuned at import or while training.

One JSON file a family: {"source": how its rows came about, "kernels": {kernel: {chip: [rows]}}}.
`lyceum bench kernels --tune` measures the candidates on a GPU and rewrites its chip's rows.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parent

PROCESSORS = {"sm_80": 108, "sm_90": 132, "sm_100": 148}
"""Streaming multiprocessors of A100, H100/H200 and B200, for kernels that are only compiled."""

SHARED_MEMORY = {"sm_80": 166_912, "sm_90": 232_448, "sm_100": 232_448}
"""Bytes of shared memory that one program may have (CUDA C++ Programming Guide, table 30)."""

_DEFAULT_CHIP = "sm_90"

_chip: ContextVar[str | None] = ContextVar("chip", default=None)
_tried: ContextVar[tuple[str, dict[str, int]] | None] = ContextVar("tried", default=None)


def tile(kernel: str, width: int, device: torch.device) -> dict[str, int]:
    """The constants that `kernel` is launched with at `width`, such as num_warps.

    `kernel`: its family and its name in it, as "rms_norm.forward"; raises KeyError where there is
    none. `width` is what the kernel's block runs along: the hidden size, the vocabulary slice, the
    size of a head. The first row of the table whose `up_to` is not below it; the last one beyond.
    """
    tried = _tried.get()
    if tried is not None and tried[0] == kernel:
        return dict(tried[1])
    return dict(_tile(kernel, width, chip(device)))


@contextmanager
def trying(kernel: str, constants: dict[str, int]) -> Iterator[None]:
    """Inside, `kernel` is launched with these constants, whatever the table says."""
    token = _tried.set((kernel, constants))
    try:
        yield
    finally:
        _tried.reset(token)


def chip(device: torch.device) -> str:
    """The device's architecture, as sm_90; for the CPU and for "meta", what `compiled_for` says."""
    return _chip.get() or _device_chip(device)


def processors(device: torch.device) -> int:
    """Streaming multiprocessors of the device; few in the interpreter, which runs one at a time."""
    if device.type == "cuda":
        return _processors(device)
    chosen = _chip.get()
    return PROCESSORS[chosen] if chosen else 2


@contextmanager
def compiled_for(name: str) -> Iterator[None]:
    """Inside, tiles are those of the chip `name`, such as sm_100, whatever the device."""
    token = _chip.set(name)
    try:
        yield
    finally:
        _chip.reset(token)


@cache
def _device_chip(device: torch.device) -> str:
    if device.type != "cuda":
        return _DEFAULT_CHIP
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


@cache
def _processors(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@cache
def _tile(kernel: str, width: int, name: str) -> tuple[tuple[str, int], ...]:
    rows = _rows(kernel, name)
    row = next((row for row in rows if width <= row["up_to"]), rows[-1])
    return tuple((key, value) for key, value in row.items() if key != "up_to")


def _rows(kernel: str, name: str) -> list[dict[str, int]]:
    """The chip's rows; those of the newest older chip where it has none of its own."""
    family, _, part = kernel.partition(".")
    by_chip = table(family)["kernels"][part]
    number = int(name.removeprefix("sm_"))
    known = sorted(by_chip, key=lambda key: int(key.removeprefix("sm_")))
    older = [key for key in known if int(key.removeprefix("sm_")) <= number]
    rows: list[dict[str, int]] = by_chip[older[-1] if older else known[0]]
    return rows


@cache
def table(family: str) -> dict[str, Any]:
    """The parsed JSON file of a family."""
    read: dict[str, Any] = json.loads((FOLDER / f"{family}.json").read_text(encoding="utf-8"))
    return read
