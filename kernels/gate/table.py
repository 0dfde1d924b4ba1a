"""The checked-in readings of one Triton version, and how they are shown."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import triton

from kernels.bench.table import layout
from kernels.gate.collect import Broken, Outcome, Row
from kernels.gate.read import Reading

FOLDER = Path(__file__).parent / "tables"

Key = tuple[str, str, str, str]
_KEY = ("family", "case", "kernel", "chip")

Table = dict[Key, Reading]


def table_path() -> Path:
    """Where the readings of the installed Triton lie, if anyone has written them."""
    return FOLDER / f"triton-{triton.__version__}.json"


def read_table(path: Path, families: Iterable[str]) -> Table | None:
    """The readings of these families; none where there is no such file."""
    if not path.exists():
        return None
    asked = set(families)
    lines = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return {
        (row["family"], row["case"], row["kernel"], row["chip"]): _reading(row)
        for row in lines
        if row["family"] in asked
    }


def write_table(path: Path, outcomes: Sequence[Outcome], families: Iterable[str]) -> None:
    """Replace the rows of these families; a line a row, so that a difference can be read."""
    replaced = set(families)
    kept: list[dict[str, object]] = []
    if path.exists():
        lines = json.loads(path.read_text(encoding="utf-8"))["rows"]
        kept = [row for row in lines if row["family"] not in replaced]
    new = [_line(row) for row in outcomes if isinstance(row, Row)]
    lines = sorted([*kept, *new], key=lambda row: str(row["family"]))
    text = ",\n  ".join(json.dumps(row) for row in lines)
    source = "lyceum bench kernels --compile-only --write"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'{{"triton": "{triton.__version__}", "source": "{source}", "rows": [\n  {text}\n]}}\n',
        encoding="utf-8",
    )


def show(outcomes: Sequence[Outcome]) -> str:
    """All readings as text, a family a table, a kernel on a chip a line."""
    parts = []
    rows = [one for one in outcomes if isinstance(one, Row)]
    for family, own in groupby(rows, key=lambda row: row.family):
        parts.append(f"{family}\n\n{layout([_HEADER, *map(_cells, own)])}")
    broken = [f"{one.name}: does not compile" for one in outcomes if isinstance(one, Broken)]
    return "\n\n".join([*parts, *broken])


_HEADER = (
    *("case, kernel", "chip", "registers", "stack", "spills", "shared"),
    *("load", "store", "tensor core"),
)


def _cells(row: Row) -> tuple[str, ...]:
    one = row.reading
    counts = (one.registers, one.stack, one.spills, one.shared)
    widest = (max(accesses, default=0) or "-" for accesses in (one.loads, one.stores))
    tensor_core = " ".join(f"{count} {kind}" for kind, count in one.tensor_core.items()) or "-"
    return (f"{row.case}, {row.kernel}", row.chip, *map(str, (*counts, *widest)), tensor_core)


def _line(row: Row) -> dict[str, object]:
    return dict(zip(_KEY, row.key, strict=True)) | asdict(row.reading)


def _reading(row: dict[str, object]) -> Reading:
    fields = {name: row[name] for name in Reading.__dataclass_fields__}
    for name in ("loads", "stores"):
        fields[name] = {int(bits): count for bits, count in dict(row[name]).items()}  # type: ignore[call-overload]
    return Reading(**fields)  # type: ignore[arg-type]
