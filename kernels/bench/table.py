"""Results as a Markdown table and as JSON."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from kernels.bench.case import BenchCase
from kernels.bench.ceilings import Ceilings
from kernels.bench.measure import Measurement
from kernels.bench.run import BenchRun

HEADER = (
    *("operator", "size", "implementation", "median", "rate"),
    *("of the ceiling", "of the floor", "memory"),
)


@dataclass(frozen=True)
class Result:
    """One implementation of one case; none, and nothing measured, where there is no GPU."""

    family: str
    case: BenchCase
    implementation: str | None
    floor_seconds: float
    ceiling: float
    """The best rate, in the case's unit: FLOP/s or bytes/s."""
    measurement: Measurement | None = None
    failure: str | None = None

    @property
    def rate(self) -> float | None:
        """FLOP/s where the case has work, else bytes/s, of the least work or traffic."""
        if self.measurement is None:
            return None
        return (self.case.work or self.case.traffic) / self.measurement.median_seconds

    @property
    def ceiling_share(self) -> float | None:
        """The rate as a share of the best that the chip can do."""
        return None if self.rate is None else self.rate / self.ceiling

    @property
    def floor_share(self) -> float | None:
        """The least time as a share of the time taken; differs where traffic limits the work."""
        if self.measurement is None:
            return None
        return self.floor_seconds / self.measurement.median_seconds

    def figures(self) -> dict[str, object]:
        """Everything, for JSON; null for what was not measured."""
        return {
            "family": self.family,
            "operator": self.case.operator,
            "size": self.case.size,
            "width": self.case.width,
            "implementation": self.implementation,
            "traffic_bytes": self.case.traffic,
            "work_flops": self.case.work,
            "floor_seconds": self.floor_seconds,
            "measurement": None if self.measurement is None else asdict(self.measurement),
            "rate": self.rate,
            "rate_unit": "FLOP/s" if self.case.work else "bytes/s",
            "ceiling_share": self.ceiling_share,
            "floor_share": self.floor_share,
            "failure": self.failure,
        }


def markdown(results: Sequence[Result]) -> str:
    """A table; what was not measured shows its floor alone."""
    return layout([HEADER, *(_cells(result) for result in results)])


def floors(results: Sequence[Result]) -> str:
    """A table of operator, size, traffic, work and floor, for a machine without a GPU."""
    rows = [("operator", "size", "traffic", "work", "floor")]
    for result in results:
        case = result.case
        work = f"{case.work / 1e12:.2f} TFLOP" if case.work else "-"
        floor = time_text(result.floor_seconds)
        name = f"{result.family} {case.operator}"
        rows.append((name, case.size, f"{case.traffic / 1e6:,.0f} MB", work, floor))
    return layout(rows)


def document(run: BenchRun, ceilings: Ceilings, results: Iterable[Result]) -> dict[str, object]:
    """What `--json` writes."""
    return {
        "run": asdict(run),
        "ceilings": asdict(ceilings),
        "results": [result.figures() for result in results],
    }


def time_text(seconds: float) -> str:
    """In microseconds, or in milliseconds from one on, with three digits."""
    number, unit = (seconds * 1e3, "ms") if seconds >= 1e-3 else (seconds * 1e6, "us")
    digits = 0 if number >= 100 else 1 if number >= 10 else 2
    return f"{number:.{digits}f} {unit}"


def _cells(result: Result) -> tuple[str, ...]:
    operator = f"{result.family} {result.case.operator}"
    named = (operator, result.case.size, result.implementation or "-")
    if result.measurement is None:
        return (*named, result.failure or "not measured", *("-",) * 4)
    assert result.rate is not None
    rate = (
        f"{result.rate / 1e12:.0f} TFLOP/s" if result.case.work else f"{result.rate / 1e9:.0f} GB/s"
    )
    return (
        *named,
        time_text(result.measurement.median_seconds),
        rate,
        f"{result.ceiling_share:.0%}",
        f"{result.floor_share:.0%}",
        f"{result.measurement.peak_bytes / 2**20:,.0f} MiB",
    )


def layout(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of equally long rows, the first its head, padded to be read as it is."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in rows
    ]
    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    return "\n".join([lines[0], rule, *lines[1:]])
