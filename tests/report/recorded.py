"""Runs as they lie on disk, written by hand: what a report reads, and nothing was trained."""

import json
import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.nested import nested
from trainer.recipe import Recipe

OLDER = Path(__file__).parents[1] / "compatibility" / "older" / "runs"
"""A real chain of tiny runs: pretrain, sft, preference."""
MARKUP = "<script>alert('é & \"x\"')</script>"


def older_chain(folder: Path) -> Path:
    """A copy of the real chain, without weights; its runs are FOLDER/runs/STAGE."""
    runs = folder / "runs"
    shutil.copytree(OLDER, runs, ignore=shutil.ignore_patterns("*.safetensors"))
    return runs


def record_run(
    folder: Path,
    steps: Iterable[Mapping[str, Any]] | None = None,
    environment: Mapping[str, Any] | None = None,
    **keys: Any,
) -> Path:
    """A run's directory with these steps (None: 12 ordinary ones); keys override, __ for the dot.

    It is done, and was started on one rank.
    """
    tree: dict[str, Any] = {
        "run": str(folder),
        "steps": 12,
        "sequence_length": 32,
        "model": {"layers": 4, "hidden": 64, "heads": 4, "kv_heads": 2, "ffn": 128, "vocab": 384},
        "batch": {"sequences": 8, "micro": 2},
        "optimizer": {"lr": 1e-2},
        "data": {"mixture": [{"corpus": "corpus"}]},
    }
    recipe = Recipe.from_keys(nested(tree, keys))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    known = {"ranks": 1, "ranks_a_node": 1, "command": ["lyceum", "train", "mine.yaml"]}
    write_json(folder / "environment.json", {**known, **(environment or {})})
    write_json(folder / "status.json", {"state": "done", "step": 12, "reason": "step 12 of 12"})
    given = map(step_record, range(1, 13)) if steps is None else steps
    lines = "".join(json.dumps(one) + "\n" for one in given)
    (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    return folder


def step_record(step: int, **more: Any) -> dict[str, Any]:
    """A line of metrics.jsonl, with names as the loop writes them."""
    return {
        "step": step,
        "loss": 2.0 + 3.0 * math.exp(-step / 100) + 0.1 * math.sin(step),
        "grad_norm": 1.0 + 0.5 * math.cos(step),
        "lr": 1e-3,
        "tokens": 256 * step,
        "supervised_tokens": 200 * step,
        "step_seconds": 0.25,
        "tokens_per_second": 1000.0 + step % 7,
        "tflops_per_device": 0.5,
        "mfu": None,
        "memory_gib": 0.5,
        "skipped": False,
        **more,
    }


def figure(value: float, better: str | None = "lower") -> dict[str, Any]:
    """A figure as examinations store it, over 40 items."""
    interval = [value - 0.1, value + 0.1]
    return {
        "value": value,
        "items": 40,
        "interval": interval,
        "in_corpus": None,
        "better": better,
    }


def examined(
    run: Path,
    name: str,
    made_up: float,
    right: float,
    verdicts: Mapping[str, str] | None = None,
) -> None:
    """An examination of RUN/evaluations/NAME by known-unknown, with a record a verdict."""
    folder = run / "evaluations" / name
    folder.mkdir(parents=True)
    figures = {"hallucination": figure(made_up), "accuracy": figure(right, "higher")}
    result = {"figures": figures, "items": 40, "failed": {}, "before": 0, "remarks": []}
    suites = {"known-unknown": {"settings": {"asked": "a"}, "result": result}}
    write_json(folder / "figures.json", {"model": {}, "suites": suites})
    records = [
        {
            "id": key,
            "question": f"Question {key}?",
            "exists": not key.startswith("unknown"),
            "answer": f"{name} answers {key} {MARKUP}",
            "verdict": verdict,
            "confidence": 0.1 + number / 100,
        }
        for number, (key, verdict) in enumerate((verdicts or {}).items())
    ]
    lines = "".join(json.dumps(one) + "\n" for one in records)
    (folder / "known-unknown.jsonl").write_text(lines, encoding="utf-8")


def examined_by_command(file: Path, checkpoint: Path, made_up: float, **records: str) -> None:
    """What `lyceum evaluate --json` wrote of a checkpoint, with a record an outcome."""
    content = {
        "checkpoint": str(checkpoint),
        "step": 12,
        "settings": {"seed": 0},
        "figures": {"held-out": {"hallucination": figure(made_up)}},
        "items": {"held-out": 40},
        "gates": [{"gate": "held-out/hallucination < 0.5", "passed": made_up < 0.5, "line": "so"}],
    }
    file.parent.mkdir(exist_ok=True)
    write_json(file, content)
    folder = file.with_name(f"{file.stem}.records")
    folder.mkdir()
    with (folder / "held-out.jsonl").open("w", encoding="utf-8") as lines:
        for name, outcome in records.items():
            one = {"id": name, "question": f"Question {name}?", "answerable": False}
            lines.write(json.dumps(one | {"answer": file.stem, "outcome": outcome}) + "\n")


def write_json(path: Path, content: Any) -> None:
    """A file of JSON."""
    path.write_text(json.dumps(content), encoding="utf-8")
