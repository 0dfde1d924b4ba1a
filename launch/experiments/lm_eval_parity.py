"""The scores that lm-eval's tasks give a model here, at several layouts, beside lm-eval's own.

usage: python -m launch.experiments.lm_eval_parity CHECKPOINT FOLDER --tasks DIR
           [--limit N] [--layout "parallel.tensor=3" ...] > FILE.md

CHECKPOINT is measured by `lyceum evaluate` once a layout, FOLDER, the same model as a Hugging Face
folder, by lm-eval's model `hf` with batches of one, in fp32 and in fp64, which tells whose rounding
a difference is. Suites: all tasks in DIR but those that a group of DIR names, and its groups. Exit
code 1 where a score differs from that in fp32 by more than 5e-5 of its size, or of 1 where that is
less: the fourth decimal.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from contextlib import chdir
from importlib.metadata import version
from math import inf, prod
from pathlib import Path
from typing import Any

LAYOUTS = [
    "parallel.tensor=1",
    "parallel.tensor=3",
    "parallel.pipeline=2",
    "parallel.tensor=3 parallel.pipeline=2",
]
CLOSE = 5e-5


def main() -> int:
    """Measure, print the table as Markdown, and say whether all scores agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=6)
    parser.add_argument("--layout", action="append", default=[])
    asked = parser.parse_args()
    tasks = asked.tasks.absolute()
    suites, theirs = by_lm_eval(asked.folder.absolute(), tasks, asked.limit, "float32")
    _, exact = by_lm_eval(asked.folder.absolute(), tasks, asked.limit, "float64")
    layouts = asked.layout or LAYOUTS
    ours = [by_command(asked.checkpoint, tasks, asked.limit, layout, suites) for layout in layouts]
    command = f"lm_eval_parity CHECKPOINT FOLDER --tasks {asked.tasks} --limit {asked.limit}"
    print(f"`python -m launch.experiments.{command}`")
    return _print(theirs, exact, dict(zip(layouts, ours, strict=True)))


def by_lm_eval(
    folder: Path, tasks: Path, limit: int, dtype: str
) -> tuple[list[str], dict[str, float]]:
    """The suites, and the figures of lm-eval's own Hugging Face model, as SUITE/FIGURE."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    named = {
        member for group in manager.all_groups for member in manager.task_index[group].cfg["task"]
    }
    suites = [*(task for task in manager.all_subtasks if task not in named), *manager.all_groups]
    model = HFLM(pretrained=str(folder), device="cpu", dtype=dtype, batch_size=1)
    with chdir(tasks):  # lm-eval reads data files relative to the working directory
        results: Any = simple_evaluate(
            model, tasks=suites, task_manager=manager, limit=limit, bootstrap_iters=0
        )
    figures = {}
    for suite in suites:
        for name in [suite, *results["group_subtasks"].get(suite, [])]:
            for key, value in results["results"][name].items():
                metric, comma, kind = key.partition(",")
                if comma and not metric.endswith("_stderr"):
                    short = metric if kind == "none" else key
                    figure = short if name == suite else f"{name}/{short}"
                    figures[f"{suite}/{figure}"] = float(value)
    return suites, figures


def by_command(
    checkpoint: Path, tasks: Path, limit: int, layout: str, suites: list[str]
) -> dict[str, float]:
    """The figures of `lyceum evaluate` on as many ranks as the layout takes."""
    overrides = layout.split()
    ranks = prod(int(one.partition("=")[2]) for one in overrides)
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "trainer", "evaluate", str(checkpoint)]
        command += [*(overrides if ranks > 1 else ()), "--nproc", str(ranks)]
        command += [part for suite in suites for part in ("--suite", suite)]
        command += ["--tasks-path", str(tasks), "--limit", str(limit), "--json", str(found)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        report = json.loads(found.read_text())
    return {
        f"{suite}/{name}": value
        for suite, figures in report["suites"].items()
        for name, value in figures.items()
    }


def _print(
    theirs: dict[str, float], exact: dict[str, float], ours: dict[str, dict[str, float]]
) -> int:
    packages = ("torch", "transformers", "lm-eval", "megatron-core")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    print(f"\nPython {platform.python_version()}, {versions}; CPU, fp32.\n")
    columns = {
        "`hf`": theirs,
        "`hf` in fp64": exact,
        **{f"`{name}`": it for name, it in ours.items()},
    }
    print("|figure|", "|".join(columns), "|", sep="")
    print("|---|", "---:|" * len(columns), sep="")
    for name in theirs:
        print(
            f"|{name}|", "|".join(f"{found[name]:.6f}" for found in columns.values()), "|", sep=""
        )
    print("\nLargest difference, of a figure's size, or of 1 where that is less:\n")
    print("|of|from `hf`|from `hf` in fp64|")
    print("|---|---:|---:|")
    for name, found in columns.items():
        print(f"|{name}|{_gap(found, theirs):.1e}|{_gap(found, exact):.1e}|")
    return int(any(_gap(found, theirs) > CLOSE for found in ours.values()))


def _gap(ours: dict[str, float], theirs: dict[str, float]) -> float:
    """The largest difference of two models' figures, infinite where one lacks a figure."""
    if ours.keys() != theirs.keys():
        return inf
    return max(abs(ours[name] - value) / max(1, abs(value)) for name, value in theirs.items())


if __name__ == "__main__":
    sys.exit(main())
