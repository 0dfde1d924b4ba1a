"""What was measured as a table, as JSON and as a picture."""

import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from kernels.bench.run import version_of
from trainer.bench.data.corpus import Workload
from trainer.bench.data.measure import ContestantResult
from trainer.bench.display import draw_bars, figure_of, save, table_of
from trainer.errors import RecipeError
from trainer.files import write_output

PACKAGES = ("torch", "numpy", "webdataset", "datasets", "pyarrow", "tokenizers")


@dataclass(frozen=True)
class Report:
    """All figures of one run: of batches in tokens, of text in bytes."""

    workload: Workload
    padding_share: float
    split_documents: int
    batches: list[ContestantResult]
    text: list[ContestantResult]
    text_documents: int

    @property
    def share_of_bare(self) -> dict[str, float]:
        """Our tokenization as a share of the bare tokenizer's speed, by CPU and by wall time."""
        ours, bare = self.text
        return {
            "cpu": ours.per_cpu_second / bare.per_cpu_second,
            "wall": ours.per_wall_second / bare.per_wall_second,
        }


def tables(report: Report) -> list[Table]:
    """One of batches, one of text."""
    work = report.workload
    title = (
        f"{work.tokens / 1e6:.1f}M tokens in {work.documents:,} documents; {work.rows} rows of"
        f" {work.sequence_length}; million tokens a second (median of"
        f" {len(report.batches[0].cpu_seconds)})"
    )
    heads = ("", "a CPU-second", "a second", "spread")
    batches = table_of(title, heads, map(_cells, report.batches))
    title = f"tokenization of {report.text_documents:,} documents, MB of text a second"
    rates = [report.text_documents * one.per_wall_second / one.amount for one in report.text]
    rows = [(*_cells(one), f"{rate:,.0f}") for one, rate in zip(report.text, rates, strict=True)]
    return [batches, table_of(title, (*heads, "documents a second"), rows)]


def _cells(figure: ContestantResult) -> tuple[str, ...]:
    return (
        figure.name,
        f"{figure.per_cpu_second / 1e6:.1f}",
        f"{figure.per_wall_second / 1e6:.1f}",
        f"{figure.spread:.0%}",
    )


def write_json(report: Report, path: Path, command: str) -> None:
    """All figures with hardware and versions. Raises RecipeError where it cannot be written."""
    versions = {name: version_of(name) for name in PACKAGES}
    content = {
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg(),
        },
        "versions": {"python": platform.python_version(), **versions},
        "workload": {**asdict(report.workload), "folder": "the benchmark's corpus"},
        "padding_share": report.padding_share,
        "split_documents": report.split_documents,
        "tokens": [_content(figure) for figure in report.batches],
        "text_bytes": [_content(figure) for figure in report.text],
        "text_documents": report.text_documents,
        "tokenization_share_of_bare": report.share_of_bare,
    }
    write_output(path, content)


def _content(figure: ContestantResult) -> dict[str, Any]:
    rates = {"per_cpu_second": figure.per_cpu_second, "per_wall_second": figure.per_wall_second}
    return {**asdict(figure), **rates, "spread": figure.spread}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def draw(report: Report, folder: Path) -> list[Path]:
    """Write data.png and data.svg: a bar a contestant. Raises RecipeError where it cannot."""
    units = {"million tokens a CPU-second": report.batches, "MB of text a CPU-second": report.text}
    figure = figure_of(8, 6.5)
    ratios = [len(contestants) for contestants in units.values()]
    panels = figure.subplots(len(units), 1, height_ratios=ratios)
    for axes, (unit, contestants) in zip(panels, units.items(), strict=True):
        rates = {one.name: one.per_cpu_second / 1e6 for one in contestants}
        draw_bars(axes, rates, {name for name in rates if name.startswith("lyceum")}, unit, "%.1f")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(f"{folder}: cannot be written: {error.strerror}") from error
    paths = [folder / "data.png", folder / "data.svg"]
    for path in paths:
        save(figure, path)
    return paths
