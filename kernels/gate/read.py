"""What a compiled kernel costs, read from its machine code by the tools in Triton's wheel."""

import itertools
import re
import struct
import subprocess
import tempfile
from bisect import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton

from kernels.bench.errors import BenchError

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]+)\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)
_TENSOR_CORE = re.compile(r"[HIQ]G?MMA|UTC\w*MMA")
_WIDTHS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "64": 64, "96": 96, "128": 128, "256": 256}
# The tensor memory accelerator and bulk copies move whole tiles, in lines of 128 bits and more.
_LOADS = {"LDG": 32, "LDGSTS": 32, "UTMALDG": 128, "UBLKCP": 128}
_STORES = {"STG": 32, "UTMASTG": 128, "UTMAREDG": 128}
# https://refspecs.linuxfoundation.org/elf/elf.pdf: where the section table is, its rows' size and
# number, and of a row its flags, offset and size.
_ELF_TABLE, _ELF_COUNT = struct.Struct("<Q"), struct.Struct("<HH")
_ELF_SECTION, _ELF_EXECUTABLE = struct.Struct("<8xQ8xQQ"), 4


class ToolMissing(BenchError):
    """A tool that the gate reads machine code with is not there."""


class ToolFailed(BenchError):
    """Such a tool does not read what it was given."""


@dataclass(frozen=True)
class Binary:
    """What a compiled kernel is read from; its figures are those of `Reading`."""

    architecture: str
    """As nvdisasm names it: SM80, SM90a."""
    code: bytes
    registers: int
    stack: int
    shared: int
    products: int


@dataclass(frozen=True)
class Reading:
    """One compiled kernel; `loads` and `stores` count global accesses by their bits a thread."""

    registers: int
    stack: int
    """Bytes of local memory a thread, which is where spilled registers go."""
    spills: int
    """Instructions that read or write local memory."""
    shared: int
    """Bytes of shared memory a program, static and dynamic."""
    loads: dict[int, int]
    stores: dict[int, int]
    tensor_core: dict[str, int]
    """Tensor-core instructions by kind: HMMA, HGMMA, UTCHMMA."""
    products: int
    """Matrix products in the kernel's source, after unrolling."""


def binary_of(built: Any) -> Binary:
    """What to read of a kernel that Triton compiled. Raises ToolMissing, ToolFailed."""
    cubin = built.asm["cubin"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        usage = _run("cuobjdump", "-res-usage", str(path))
    target = re.search(r"^\.target sm_(\w+)", built.asm["ptx"], re.MULTILINE)
    assert target is not None, "PTX names its target"
    return Binary(
        architecture=f"SM{target[1]}",
        code=_machine_code(cubin),
        registers=_number("REG", usage),
        stack=_number("STACK", usage),
        shared=int(built.metadata.shared),
        products=len(re.findall(r"\btt\.dot(_scaled)?\b", built.asm["ttir"])),
    )


def read(binaries: Sequence[Binary]) -> list[Reading]:
    """Read compiled kernels, in their order. Raises ToolMissing, ToolFailed."""
    readings: dict[int, Reading] = {}
    # One nvdisasm an architecture: its start takes as long as disassembling 20,000 instructions.
    for architecture in sorted({binary.architecture for binary in binaries}):
        numbers = [n for n, one in enumerate(binaries) if one.architecture == architecture]
        same = [binaries[number] for number in numbers]
        readings |= zip(numbers, map(_reading, same, _disassemble(same)), strict=True)
    return [readings[number] for number in range(len(binaries))]


def _disassemble(binaries: Sequence[Binary]) -> list[Counter[str]]:
    """Each one's instructions by name; all are of one architecture."""
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(b"".join(binary.code for binary in binaries))
        file.flush()
        code = _run("nvdisasm", "-b", binaries[0].architecture, file.name)
    ends = list(itertools.accumulate(len(binary.code) for binary in binaries))
    counts = [Counter[str]() for _ in binaries]
    for address, instruction in _INSTRUCTION.findall(code):
        counts[bisect(ends, int(address, 16))][instruction] += 1
    return counts


def _machine_code(cubin: bytes) -> bytes:
    """The executable sections of a 64-bit ELF file."""
    table, (size, number) = _ELF_TABLE.unpack_from(cubin, 40)[0], _ELF_COUNT.unpack_from(cubin, 58)
    sections = (_ELF_SECTION.unpack_from(cubin, table + size * row) for row in range(number))
    return b"".join(
        cubin[start : start + length]
        for flags, start, length in sections
        if flags & _ELF_EXECUTABLE
    )


def _reading(binary: Binary, instructions: Counter[str]) -> Reading:
    loads, stores, tensor_core = Counter[int](), Counter[int](), Counter[str]()
    spills = 0
    for instruction, count in instructions.items():
        kind = instruction.partition(".")[0]
        if kind in _LOADS:
            loads[_bits(instruction, _LOADS[kind])] += count
        elif kind in _STORES:
            stores[_bits(instruction, _STORES[kind])] += count
        elif kind in ("LDL", "STL"):
            spills += count
        elif _TENSOR_CORE.fullmatch(kind):
            tensor_core[kind] += count
    return Reading(
        registers=binary.registers,
        stack=binary.stack,
        spills=spills,
        shared=binary.shared,
        loads=dict(sorted(loads.items())),
        stores=dict(sorted(stores.items())),
        tensor_core=dict(sorted(tensor_core.items())),
        products=binary.products,
    )


def _bits(instruction: str, otherwise: int) -> int:
    known = (_WIDTHS[part] for part in instruction.split(".")[1:] if part in _WIDTHS)
    return max(known, default=otherwise)


def _number(name: str, usage: str) -> int:
    found = re.search(rf"\b{name}:(\d+)", usage)
    assert found is not None, usage
    return int(found[1])


def _run(tool: str, *arguments: str) -> str:
    try:
        return subprocess.run(
            [str(_TOOLS / tool), *arguments], capture_output=True, text=True, check=True
        ).stdout
    except FileNotFoundError as error:
        raise ToolMissing(f"{_TOOLS / tool} is missing; Triton's wheel for Linux has it") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        raise ToolFailed(
            f"{tool} {arguments[0]} of Triton {triton.__version__}: {lines[0]}"
        ) from error
