"""Whether a step waits for the device: python -m trainer.doctor.waits FILE [--device cpu].

Short runs with `profile.waits`, one a way through the step; exit code 1 where one waited. On CUDA
PyTorch reports the waits, which has not been tried on a GPU yet; on a CPU, what would wait there.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.bench.tokens import made_recipe
from trainer.loop import train
from trainer.parallel.join import choose_device
from trainer.recipe import Recipe

STEPS = 10
WAYS: dict[str, dict[str, Any]] = {
    "fp32, logits": {"kernels": {"loss": "logits"}},
    "bf16, loss without logits": {"precision": "bf16", "kernels": {"loss": "fused"}},
    "bf16, recompute full": {"precision": "bf16", "recompute": "full"},
    "bf16, recompute norms and swiglu": {"precision": "bf16", "recompute": ["norms", "swiglu"]},
    "bf16, activations in host memory": {"precision": "bf16", "offload": "activations"},
    "bf16, compiled layers": {"precision": "bf16", "kernels": {"compile": "layer"}},
}
"""ZeRO above 0 is not among them: DeepSpeed waits for the gradient's norm at each step."""
CUDA_ONLY = frozenset({"bf16, compiled layers"})
"""torch.compile will not run under what watches the operators on a CPU."""


def waits_of(way: str, device: str, folder: Path) -> dict[str, Any]:
    """What a short run noted of its waits (`trainer.observe.waits`); `folder` becomes its run."""
    keys: dict[str, Any] = {
        **{"run": str(folder / "run"), "device": device, "steps": STEPS, "resume": "never"},
        "sequence_length": 128,
        "model": {"layers": 2, "hidden": 128, "heads": 2, "kv_heads": 1, "ffn": 256, "vocab": 512},
        "batch": {"sequences": 4, "micro": 2},
        "optimizer": {"lr": 1e-3},
        "zero": {"stage": 0},
        "data": {"mixture": [{"corpus": str(folder / "tokens")}], "workers": 1},
        "evaluate": {"every": 0},
        "checkpoint": {"every": 0, "save_final": False},
        "profile": {"waits": True},
        "observe": {"tensorboard": False},
    }
    train(made_recipe(Recipe.from_keys(keys | WAYS[way]), folder / "tokens", STEPS))
    found: dict[str, Any] = json.loads((folder / "run" / "waits.json").read_text(encoding="utf-8"))
    return found


def main(words: Sequence[str] | None = None) -> int:
    """0 where no step waited."""
    parser = argparse.ArgumentParser(prog="python -m trainer.doctor.waits")
    parser.add_argument("file", type=Path)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS), metavar="WAY")
    call = parser.parse_args(words)
    device = choose_device(call.device).type
    found = {}
    for way in call.ways:
        if way in CUDA_ONLY and device == "cpu":
            print(f"{way}: not checked, as it needs a GPU", flush=True)
            continue
        with tempfile.TemporaryDirectory(prefix="lyceum-waits-") as folder:
            found[way] = waits_of(way, device, Path(folder))
        content = {"device": device, "ways": found}
        call.file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        lines = [f"{wait['where']} ({wait['what']})" for wait in found[way]["waits"]]
        print(f"{way}: {', '.join(lines) or 'no waits'}", flush=True)
    return int(any(one["waits"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
