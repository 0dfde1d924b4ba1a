"""Whether a step waits for the device: short runs with `profile.waits`, one a way through the step.

On CUDA PyTorch reports the waits, which has not been tried on a GPU yet; on a CPU, what would wait
there.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from trainer.bench.tokens import made_recipe
from trainer.doctor.check import Check, NotRunError, check
from trainer.doctor.paths import recipe_of
from trainer.loop import train

STEPS = 10
WAYS: dict[str, dict[str, Any]] = {
    "fp32, logits": {"kernels.loss": "logits"},
    "bf16, loss without logits": {"precision": "bf16", "kernels.loss": "fused"},
    "bf16, recompute full": {"precision": "bf16", "recompute": "full"},
    "bf16, recompute norms and swiglu": {"precision": "bf16", "recompute": ["norms", "swiglu"]},
    "bf16, activations in host memory": {"precision": "bf16", "offload": "activations"},
    "bf16, compiled layers": {"precision": "bf16", "kernels.compile": "layer"},
}
"""ZeRO above 0 is not among them: DeepSpeed waits for the gradient's norm at each step."""
_LARGER: dict[str, Any] = {
    **{"steps": STEPS, "sequence_length": 128, "batch.sequences": 4, "optimizer.lr": 1e-3},
    "model": {"layers": 2, "hidden": 128, "heads": 2, "kv_heads": 1, "ffn": 256, "vocab": 512},
    **{"data.workers": 1, "profile.waits": True},
}
"""What differs from the recipe of all other checks."""
CUDA_ONLY = frozenset({"bf16, compiled layers"})
"""torch.compile will not run under what watches the operators on a CPU."""


def check_waits(device: torch.device, folder: Path) -> Iterator[Check]:
    """One check a way, in turn, in this process; `folder` is for made tokens and runs."""
    for number, way in enumerate(WAYS):

        def run(way: str = way, run_folder: Path = folder / str(number)) -> str:
            if way in CUDA_ONLY and device.type == "cpu":
                raise NotRunError("needs a GPU")
            return without_waits(waits_of(way, device.type, run_folder))

        yield check(f"waits: {way}", run)


def without_waits(found: dict[str, Any]) -> str:
    """Of waits.json; AssertionError naming each wait, and how often it came."""
    if found["waits"]:
        waits = [f"{one['where']} ({one['what']}, {one['times']}x)" for one in found["waits"]]
        raise AssertionError(f"waits in {found['steps']} steps: {', '.join(waits)}")
    return f"no waits in {found['steps']} steps"


def waits_of(way: str, device: str, folder: Path) -> dict[str, Any]:
    """What a short run noted of its waits (`trainer.observe.waits`); `folder` becomes its run."""
    recipe = recipe_of(_LARGER | WAYS[way], torch.device(device), folder)
    train(made_recipe(recipe, folder / "tokens", STEPS))
    found: dict[str, Any] = json.loads((folder / "run" / "waits.json").read_text(encoding="utf-8"))
    return found
