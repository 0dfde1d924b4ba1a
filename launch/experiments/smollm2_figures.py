"""The figures of SmolLM2-135M-Instruct by every built-in suite, on a text that any Python has.

    make smollm2
    python -m launch.experiments.smollm2_figures [--nproc N]

The docstrings of Python's standard library are the text that perplexity, occurrence and
memorisation read. Writes smollm2_figures.json (`lyceum evaluate --json`) and smollm2_figures.md
beside this file; records and text stay in the cache.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from trainer.demo.docstrings import read_docstrings
from trainer.demo.packages import resolve_packages, source_files
from trainer.evaluate.smollm2 import smollm2_checkpoint
from trainer.files import cache_folder

HERE = Path(__file__).with_suffix("")
VERSIONS = ("torch", "transformers", "megatron-core", "lm-eval")


def docstrings() -> Path:
    """A file with a docstring a line, in the cache."""
    file = cache_folder("experiments") / "docstrings.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    documents = read_docstrings(source_files(resolve_packages(("stdlib",))))
    lines = [json.dumps({"id": one.id, "text": one.text}) for one in documents]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def measured(words: list[str]) -> tuple[str, float, float]:
    """What the command prints, and the wall and CPU seconds that it takes."""
    started, before = time.perf_counter(), os.times()
    command = [sys.executable, "-m", "trainer", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    used = os.times()
    cpu = used.children_user + used.children_system - before.children_user - before.children_system
    return done.stdout.decode(), time.perf_counter() - started, cpu


def run(nproc: int | None) -> None:
    """Measure, and write both files."""
    records = cache_folder("experiments") / f"smollm2-{time.time_ns()}"
    words = ["evaluate", str(smollm2_checkpoint()), "--text", str(docstrings())]
    words += ["--json", f"{HERE}.json", "--records", str(records)]
    words += [] if nproc is None else ["--nproc", str(nproc)]
    table, wall, cpu = measured(words)
    report = json.loads(Path(f"{HERE}.json").read_text(encoding="utf-8"))
    report |= {"checkpoint": "SmolLM2-135M-Instruct", "records": "records"}
    report["settings"]["texts"] = ["docstrings.jsonl"]
    Path(f"{HERE}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    shown = [line.rstrip() for line in table.splitlines() if line.strip()]
    lines = [
        "# SmolLM2-135M-Instruct by the built-in suites: the base to beat",
        "",
        f"`python -m launch.experiments.smollm2_figures{f' --nproc {nproc}' if nproc else ''}`",
        "",
        f"{wall:.0f} s on two cores ({cpu:.0f} CPU seconds), Python"
        f" {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in VERSIONS)
        + "; CPU, fp32. Text: the docstrings of Python's standard library.",
        "",
        "```",
        *[line for line in shown if not line.startswith(("each item", "/"))],
        "```",
    ]
    Path(f"{HERE}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nproc", type=int, default=None)
    run(parser.parse_args().nproc)
