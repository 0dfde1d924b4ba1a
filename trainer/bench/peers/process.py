"""A peer in a process of its own: what it leaves in memory, or how it dies, is its own affair."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainer.bench.clock import Timing
from trainer.bench.peers import peer
from trainer.recipe import Recipe

SECONDS = 600.0
"""A peer that takes longer, compilation included, is given up."""


@dataclass(frozen=True)
class PeerResult:
    """What became of a peer: a `timing`, or a `problem` in one line.

    `micro`: sequences a micro-batch that it ran with; `out_of_memory`: those that did not fit.
    """

    name: str
    given: dict[str, str]
    micro: int
    out_of_memory: tuple[int, ...] = ()
    problem: str | None = None
    timing: Timing | None = None
    parameters: int | None = None
    first_loss: float | None = None
    last_loss: float | None = None


def run_peer(
    name: str, recipe: Recipe, device: torch.device, steps: int, seconds: float = SECONDS
) -> PeerResult:
    """Time the peer on a recipe whose vocabulary is known; where memory ends, at half the
    micro-batch, and so on. `seconds`: after which it is given up.
    """
    one = peer(name)
    reason = one.why_not(recipe, device)
    micro = recipe.batch.micro
    too_large: list[int] = []
    while not reason:
        answer = _ask(name, recipe.replaced({"batch.micro": micro}), steps, seconds)
        if not answer.get("out_of_memory"):
            return _result(name, one.given, micro, tuple(too_large), answer)
        too_large.append(micro)
        if micro == 1:
            reason = "out of memory at micro 1"
        micro = half(micro, recipe.batch.sequences)
    return PeerResult(name, one.given, micro, tuple(too_large), problem=reason)


def half(micro: int, sequences: int) -> int:
    """The largest micro-batch up to half of this one that divides the sequences of a step."""
    return next((n for n in range(micro // 2, 1, -1) if sequences % n == 0), 1)


def _result(
    name: str,
    given: dict[str, str],
    micro: int,
    too_large: tuple[int, ...],
    answer: dict[str, Any],
) -> PeerResult:
    if "problem" in answer:
        return PeerResult(name, given, micro, too_large, problem=answer["problem"])
    timing = Timing(**answer.pop("timing"))
    return PeerResult(name, micro=micro, out_of_memory=too_large, timing=timing, **answer)


def _ask(name: str, recipe: Recipe, steps: int, seconds: float) -> dict[str, Any]:
    """The answer of a process; a `problem` too where it died without one."""
    with tempfile.TemporaryDirectory(prefix="lyceum-peer-") as folder:
        request, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        content = {"recipe": recipe.model_dump(mode="json"), "steps": steps}
        request.write_text(json.dumps(content), encoding="utf-8")
        try:
            ended = subprocess.run(
                [*_command(), name, str(request), str(answer)],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return {"problem": f"no answer within {seconds:.0f} s"}
        if answer.exists():
            read: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
            return read
        said = [line for line in ended.stderr.splitlines() if line.strip()]
        last = said[-1].strip() if said else "it said nothing"
        return {"problem": f"it ended with exit code {ended.returncode}: {last}"}


def _command() -> list[str]:
    return [sys.executable, "-m", "trainer.bench.peers"]
