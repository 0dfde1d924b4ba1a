"""OUT/REPORT.md, summary.json, all.json and plots.zip: what the parts left, made readable.

A figure that was not measured is "not measured: REASON", never a number.
"""

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer.bench.gpu.machine import Machine
from trainer.bench.gpu.parts import Part
from trainer.bench.gpu.result import RECORD, PartResult
from trainer.bench.gpu.tables import section_of, table
from trainer.files import write_whole

DRY = (
    "> **A dry run.** Every part ran at its smallest, on the CPU, to show that it runs. "
    "Its figures mean nothing."
)


def write_reports(
    out: Path,
    machine: Machine,
    parts: Sequence[Part],
    results: Sequence[PartResult],
    dry: bool,
) -> None:
    """Renew all four files; `parts` are those asked for, `results` those that ended so far."""
    summary = {
        "dry": dry,
        "machine": asdict(machine),
        "outcomes": [asdict(one) for one in results],
    }
    found = {part.name: _json(out, part) for part in parts}
    write_whole(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_whole(out / RECORD, json.dumps({"summary": summary, "parts": found}, indent=1) + "\n")
    write_whole(out / "REPORT.md", "\n".join(_report(out, machine, parts, results, dry)) + "\n")
    with zipfile.ZipFile(out / "plots.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _plots(out):
            archive.write(path, path.relative_to(out))


def _report(
    out: Path,
    machine: Machine,
    parts: Sequence[Part],
    results: Sequence[PartResult],
    dry: bool,
) -> Iterator[str]:
    yield "# On a GPU: the same code, close to the limit\n"
    if dry:
        yield f"{DRY}\n"
    yield from _machine(machine)
    yield from _ceilings(out, results)
    ended = {one.part: one for one in results}
    rows = []
    for part in parts:
        one = ended.get(part.name)
        spent = ("-", "-") if one is None else (f"{one.seconds:.0f}", f"{one.allowed_seconds:.0f}")
        rows.append((part.name, part.about, _state(one), *spent))
    yield from table(("part", "what it shows", "ended", "seconds", "of"), rows)
    for part in parts:
        yield from _section(out, part, ended.get(part.name))
    plots = [str(path.relative_to(out)) for path in _plots(out)]
    yield "\n## Plots\n"
    yield "\n".join(f"- {name}" for name in plots) or "none"


def _machine(machine: Machine) -> Iterator[str]:
    run, about = machine.run, machine.environment
    git = about.get("git") or {}
    dirty = " with changes" if git.get("dirty") else ""
    packages = {**(about.get("packages") or {}), **run.get("versions", {})}
    yield f"- GPU: {_gpu(machine)}"
    yield f"- host: {(about.get('cpu') or {}).get('name')}, {about.get('platform')}"
    yield f"- Python {run.get('python')}, CUDA {about.get('cuda')}"
    named = ", ".join(f"{name} {version or 'not installed'}" for name, version in packages.items())
    yield f"- packages: {named}"
    yield f"- revision: {git.get('revision')}{dirty}"
    yield f"- date: {run.get('date')}"
    yield f"- command: `{run.get('command')}`"
    if "unknown" in about:
        yield f"- not all is known of this machine: {about['unknown']}"


def _gpu(machine: Machine) -> str:
    if machine.gpu is None or machine.capability is None:
        return "none"
    run, (major, minor) = machine.run, machine.capability
    return (
        f"{machine.gpu}, {machine.memory_gib:.0f} GiB, compute capability {major}.{minor}, driver "
        f"{run.get('driver')}, power limit {run.get('power_limit_watts')} W"
    )


def _ceilings(out: Path, results: Sequence[PartResult]) -> Iterator[str]:
    path = out / "ceilings.json"
    done = any(one.part == "ceilings" and one.state == "done" for one in results)
    if not (done and path.exists()):
        why = next((one.reason for one in results if one.part == "ceilings"), "not asked for")
        yield f"- ceilings: not measured: {why}\n"
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    yield (
        f"- ceilings: {found['bytes_per_second'] / 1e12:.3g} TB/s, "
        f"{found['flops_per_second'] / 1e12:.3g} TFLOP/s on {found['device']} ({found['source']})\n"
    )


def _section(out: Path, part: Part, result: PartResult | None) -> Iterator[str]:
    yield f"\n## {part.name}: {part.about}\n"
    if result is None:
        yield "not measured: not yet run"
        return
    if result.command:
        yield f"`{result.command}`\n"
    content = _json(out, part)
    if result.state != "done":
        yield f"not measured: {result.reason}\n"
        if content is None:
            return
        yield "What it left before that:\n"
    elif content is None:
        yield f"not measured: it left no {part.leaves[0]}"
        return
    own = [out / name for name in part.leaves if name.endswith(".md") and (out / name).exists()]
    if own:
        yield from (path.read_text(encoding="utf-8") for path in own)
    else:
        yield from section_of(part.name, content)


def _json(out: Path, part: Part) -> Any:
    """What the part left, or None: nothing, or half of it."""
    path = next((out / name for name in part.leaves if name.endswith(".json")), None)
    if path is None or not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None


def _plots(out: Path) -> list[Path]:
    return sorted(path for kind in ("*.svg", "*.png") for path in out.rglob(kind))


def _state(result: PartResult | None) -> str:
    if result is None:
        return "not yet run"
    return (result.reason or result.state) + (f" ({result.call})" if result.call else "")
