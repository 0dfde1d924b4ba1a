"""What a compiled kernel must not do, and how it may differ from the checked-in table."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from kernels.gate.collect import Broken, Outcome, Row
from kernels.gate.read import Reading
from kernels.gate.table import Table
from kernels.tiles import SHARED_MEMORY

TENSOR_CORES = {"sm_80": ("HMMA",), "sm_90": ("HGMMA",), "sm_100": ("UTCHMMA", "UTCQMMA")}
"""The instructions for bf16 and fp8 products that reach the chip's full rate."""


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    """One line for each rule that a kernel breaks: its name, what is wrong, limit and found."""
    found = [
        f"{one.name}: does not compile: {one.reason}" for one in outcomes if isinstance(one, Broken)
    ]
    rows = [one for one in outcomes if isinstance(one, Row)]
    for row in rows:
        found += [f"{row.name}: {problem}" for problem in _row_problems(row)]
    for (family, case, chip), launches in groupby(sorted(rows, key=_case), key=_case):
        together = list(launches)
        if together[0].products and not any(row.reading.products for row in together):
            found.append(
                f"{family}, {case}, {chip}: no kernel multiplies matrices; tl.dot expected"
            )
    return found


def regressions(outcomes: Sequence[Outcome], table: Table) -> list[str]:
    """One line for each row whose code has become worse than in the table.

    Worse is: more spills, narrower loads or stores at the widest, tensor cores no longer used.
    """
    found = []
    for row in (one for one in outcomes if isinstance(one, Row)):
        before = table.get(row.key)
        if before is not None:
            found += [f"{row.name}: {problem}" for problem in _worse(before, row.reading)]
    return found


def differences(outcomes: Sequence[Outcome], table: Table) -> list[str]:
    """One line for each row that is not exactly as the table has it, better or worse."""
    rows = [one for one in outcomes if isinstance(one, Row)]
    launched = {row.key for row in rows}
    found = [
        f"{', '.join(key)}: is in the table, but nothing launches it any more"
        for key in table
        if key not in launched
    ]
    for row in rows:
        before = table.get(row.key)
        if before is None:
            found.append(f"{row.name}: is not in the table")
        elif before != row.reading:
            changed = ", ".join(
                f"{name} {getattr(before, name)} -> {getattr(row.reading, name)}"
                for name in Reading.__dataclass_fields__
                if getattr(before, name) != getattr(row.reading, name)
            )
            found.append(f"{row.name}: {changed}")
    return found


def _row_problems(row: Row) -> Iterable[str]:
    reading = row.reading
    most = row.spill_bytes
    if most is not None and (reading.stack > most or (reading.spills and not most)):
        yield (
            f"spills registers: limit {most}, found {reading.stack} bytes a thread and "
            f"{reading.spills} instructions"
        )
    limit = SHARED_MEMORY[row.chip]
    if reading.shared > limit:
        yield f"too much shared memory: limit {limit} bytes, found {reading.shared}"
    wide = sum(count for bits, count in reading.loads.items() if bits >= row.vector_bits)
    narrow = sum(reading.loads.values()) - wide
    # A row's statistics are single numbers; a tensor that has lost its vectors takes eight loads
    # of bf16 (four of fp32) for each wide one.
    if narrow > 2 * wide:
        yield (
            f"narrow loads: limit {row.vector_bits} bits for a third of them, found "
            f"{narrow} of {narrow + wide} narrower, the widest {max(reading.loads)}"
        )
    kinds = TENSOR_CORES[row.chip]
    if row.products and reading.products and not set(kinds) & set(reading.tensor_core):
        used = ", ".join(reading.tensor_core) or "none"
        yield f"products off the tensor cores: {' or '.join(kinds)} expected, found {used}"


def _worse(before: Reading, now: Reading) -> Iterable[str]:
    if now.spills > before.spills or now.stack > before.stack:
        yield (
            f"spills more: {before.stack} bytes and {before.spills} instructions in the table, "
            f"found {now.stack} and {now.spills}"
        )
    for name in ("loads", "stores"):
        widest, was = (max(getattr(reading, name), default=0) for reading in (now, before))
        if widest < was:
            yield f"narrower {name}: {was} bits in the table, found {widest}"
    lost = set(before.tensor_core) - set(now.tensor_core)
    if lost:
        yield f"lost tensor-core instructions: {', '.join(sorted(lost))} in the table"


def _case(row: Row) -> tuple[str, str, str]:
    return row.family, row.case, row.chip
