"""What a compiled kernel costs, read from its machine code by the tools in Triton's wheel."""

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton

from kernels.bench.errors import BenchError

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)
_TENSOR_CORE = re.compile(r"[HIQ]G?MMA|UTC\w*MMA")
_WIDTHS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "64": 64, "96": 96, "128": 128, "256": 256}
# The tensor memory accelerator and bulk copies move whole tiles, in lines of 128 bits and more.
_LOADS = {"LDG": 32, "LDGSTS": 32, "UTMALDG": 128, "UBLKCP": 128}
_STORES = {"STG": 32, "UTMASTG": 128, "UTMAREDG": 128}


class ToolMissing(BenchError):
    """A tool that the gate reads machine code with is not there."""


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


def read(built: Any) -> Reading:
    """Read a kernel that Triton compiled. Raises ToolMissing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(built.asm["cubin"])
        usage = _run("cuobjdump", "-res-usage", str(path))
        # -ndf: without the analysis of branches, which takes as long as the compilation.
        code = _run("nvdisasm", "-c", "-ndf", str(path))
    instructions = Counter(_INSTRUCTION.findall(code))
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
        registers=_number("REG", usage),
        stack=_number("STACK", usage),
        spills=spills,
        shared=int(built.metadata.shared),
        loads=dict(sorted(loads.items())),
        stores=dict(sorted(stores.items())),
        tensor_core=dict(sorted(tensor_core.items())),
        products=len(re.findall(r"\btt\.dot(_scaled)?\b", built.asm["ttir"])),
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
