"""Every compile case of every family, compiled for every chip."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kernels.bench.case import CompileCase
from kernels.bench.families import load
from kernels.bench.processes import spread
from kernels.gate.driver import CHIPS, compile_launches
from kernels.gate.read import Binary, Reading, ToolMissing, binary_of, read

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


@dataclass(frozen=True)
class _Compiled:
    """A kernel of a case, not yet read."""

    kernel: str
    binary: Binary


def collect(families: Sequence[str], chips: Sequence[str] = CHIPS) -> list[Outcome]:
    """Compile everything that the families name, in processes of their own; in a fixed order."""
    cases = {family: list(load(family).compile_cases()) for family in families}
    work = [
        (family, index, chip)
        for family in families
        for index in range(len(cases[family]))
        for chip in chips
    ]
    compiled = spread(_compile_numbered, work, _WORKERS)
    return _outcomes(
        [
            (family, cases[family][index], chip, found)
            for (family, index, chip), found in zip(work, compiled, strict=True)
        ]
    )


def compile_case(family: str, case: CompileCase, chip: str) -> list[Outcome]:
    """The rows of one case, in the order of its launches. Raises ToolMissing, ToolFailed."""
    return _outcomes([(family, case, chip, _compile(family, case, chip))])


def _compile(family: str, case: CompileCase, chip: str) -> list[_Compiled] | Broken:
    try:
        launches = compile_launches(case.run, chip)
        found = [_Compiled(kernel, binary_of(built)) for kernel, built in launches]
    except ToolMissing:
        raise
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {lines[-1].strip() if lines else ''}"
        return Broken(f"{family}, {case.name}, {chip}", reason)
    return found or Broken(f"{family}, {case.name}, {chip}", "launches no kernel")


def _outcomes(
    cases: Sequence[tuple[str, CompileCase, str, list[_Compiled] | Broken]],
) -> list[Outcome]:
    """The rows of (family, case, chip, what was compiled), all read at once."""
    readings = iter(
        read([one.binary for *_, found in cases if isinstance(found, list) for one in found])
    )
    outcomes: list[Outcome] = []
    for family, case, chip, found in cases:
        if isinstance(found, Broken):
            outcomes.append(found)
            continue
        asked = case.spill_bytes, case.products, case.vector_bits
        for kernel in _numbered(one.kernel for one in found):
            outcomes.append(Row(family, case.name, kernel, chip, *asked, next(readings)))
    return outcomes


def _numbered(kernels: Iterable[str]) -> Iterator[str]:
    seen = Counter[str]()
    for kernel in kernels:
        seen[kernel] += 1
        yield kernel if seen[kernel] == 1 else f"{kernel} #{seen[kernel]}"


def _compile_numbered(family: str, index: int, chip: str) -> list[_Compiled] | Broken:
    return _compile(family, list(load(family).compile_cases())[index], chip)
