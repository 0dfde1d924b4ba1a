"""Every compile case of every family, compiled for every chip."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kernels.bench.case import CompileCase
from kernels.bench.families import load
from kernels.bench.processes import spread
from kernels.gate.driver import CHIPS, compile_launches
from kernels.gate.read import Reading, ToolMissing, read

_WORKERS = 8


@dataclass(frozen=True)
class Row:
    """One kernel of one case on one chip, and what is asked of it."""

    family: str
    case: str
    kernel: str
    """Its function's name; "#2" and so on where a case launches it again."""
    chip: str
    spill_bytes: int | None
    products: bool
    vector_bits: int
    reading: Reading

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What names it in the table."""
        return self.family, self.case, self.kernel, self.chip

    @property
    def name(self) -> str:
        """As messages call it."""
        return ", ".join(self.key)


@dataclass(frozen=True)
class Broken:
    """A case that does not compile."""

    name: str
    reason: str


Outcome = Row | Broken


def collect(families: Sequence[str], chips: Sequence[str] = CHIPS) -> list[Outcome]:
    """Compile everything that the families name, in processes of their own; in a fixed order."""
    work = [
        (family, index, chip)
        for family in families
        for index in range(len(list(load(family).compile_cases())))
        for chip in chips
    ]
    return [outcome for part in spread(_compile_numbered, work, _WORKERS) for outcome in part]


def compile_case(family: str, case: CompileCase, chip: str) -> list[Outcome]:
    """The rows of one case, in the order of its launches."""
    try:
        launches = compile_launches(case.run, chip)
        readings = [(kernel, read(built)) for kernel, built in launches]
    except ToolMissing:
        raise
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {lines[-1].strip() if lines else ''}"
        return [Broken(f"{family}, {case.name}, {chip}", reason)]
    asked = case.spill_bytes, case.products, case.vector_bits
    rows = [
        Row(family, case.name, kernel, chip, *asked, reading)
        for kernel, reading in _numbered(readings)
    ]
    return [*rows] or [Broken(f"{family}, {case.name}, {chip}", "launches no kernel")]


def _numbered(readings: Iterable[tuple[str, Reading]]) -> Iterable[tuple[str, Reading]]:
    seen: dict[str, int] = {}
    for kernel, reading in readings:
        seen[kernel] = seen.get(kernel, 0) + 1
        yield kernel if seen[kernel] == 1 else f"{kernel} #{seen[kernel]}", reading


def _compile_numbered(family: str, index: int, chip: str) -> list[Outcome]:
    return compile_case(family, list(load(family).compile_cases())[index], chip)
