"""The compile gate: what it finds in our kernels, and that it finds what it must."""

# ruff: noqa: N803  (a Triton kernel's constexpr arguments are in capitals)

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import tiles
from kernels.bench.case import CompileCase
from kernels.bench.errors import GateFailed
from kernels.bench.families import families
from kernels.gate import command, table
from kernels.gate.collect import Broken, Outcome, Row, collect, compile_case
from kernels.gate.driver import CHIPS, compile_launches
from kernels.gate.read import Binary, ToolFailed, ToolMissing, read
from kernels.gate.rules import differences, failures, regressions
from kernels.launch import launch

META = torch.device("meta")


@triton.jit
def _double(x, y, width, x_stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    values = tl.load(x + row * x_stride + column, mask=column < width, other=0.0).to(tl.float32)
    tl.store(y + row * width + column, (2.0 * values).to(tl.bfloat16), mask=column < width)


@triton.jit
def _sort_of_softmax(x, y, width, BLOCK: tl.constexpr):
    """Holds a whole block between its two passes."""
    column = tl.arange(0, BLOCK)
    values = tl.load(x + column, mask=column < width, other=0.0).to(tl.float32)
    values = tl.exp(values - tl.max(values, axis=0))
    tl.store(y + column, (values / tl.sum(values, axis=0)).to(tl.bfloat16), mask=column < width)


@triton.jit
def _multiply(a, b, c, DEPTH: tl.constexpr, BLOCK: tl.constexpr, ELEMENTWISE: tl.constexpr):
    row = tl.arange(0, BLOCK)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inner = tl.arange(0, DEPTH)
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for start in range(0, 4 * DEPTH, DEPTH):
        left = tl.load(a + row * 4 * DEPTH + start + inner[None, :])
        right = tl.load(b + (start + inner[:, None]) * BLOCK + column)
        if ELEMENTWISE:
            # Without the condition, Triton sees that this is a product and makes it one.
            pair = left.to(tl.float32)[:, :, None] * right.to(tl.float32)[None, :, :]
            total += tl.sum(tl.where(pair == 0.0, 1.0, pair), axis=1)
        else:
            total += tl.dot(left, right)
    tl.store(c + row * BLOCK + column, total)


def doubled(x: Tensor, block: int = 4096, warps: int = 8) -> Callable[[], object]:
    rows, width = x.shape
    y = torch.empty(rows, width, dtype=x.dtype, device=x.device)
    return lambda: launch(_double, (rows,), x, y, width, x.stride(0), BLOCK=block, num_warps=warps)


def softmax(warps: int) -> Callable[[], object]:
    x = torch.empty(16384, dtype=torch.bfloat16, device=META)
    return lambda: launch(
        _sort_of_softmax, (1,), x, torch.empty_like(x), 16384, BLOCK=16384, num_warps=warps
    )


def multiplied(block: int, depth: int, *, stages: int = 3, **flags: Any) -> Callable[[], object]:
    a = torch.empty(block, 4 * depth, dtype=torch.bfloat16, device=META)
    c = torch.empty(block, block, dtype=torch.float32, device=META)
    constants = {"DEPTH": depth, "BLOCK": block, "ELEMENTWISE": False, "num_stages": stages}
    return lambda: launch(
        _multiply, (1,), a, a.view(4 * depth, block), c, **constants | flags, num_warps=4
    )


def planted(run: Callable[[], object], chip: str = "sm_90", **asked: Any) -> list[Outcome]:
    """The readings of a case that is no family's."""
    return compile_case("planted", CompileCase("case", run, **asked), chip)


def only(outcomes: Sequence[Outcome]) -> Row:
    """The one kernel."""
    (row,) = outcomes
    assert isinstance(row, Row)
    return row


def test_every_kernel_compiles_and_breaks_no_rule() -> None:
    """Catches a change that spills registers, loads bf16 one by one or leaves the tensor cores.

    On the Triton version of the checked-in table every register must be where it was, too: a change
    is to be seen and written down, with `lyceum bench kernels --compile-only --write`.
    """
    outcomes = collect(families())
    assert {row.chip for row in outcomes if isinstance(row, Row)} == set(CHIPS)
    assert {row.family for row in outcomes if isinstance(row, Row)} == set(families())
    verdict = command.judge(outcomes, table.table_path(), families())
    if not table.table_path().exists():
        print(f"no table for Triton {triton.__version__}: only the rules were held")
    assert verdict.problems(differences=True) == []


def test_a_good_kernel_passes() -> None:
    """Catches planted cases that fail for a reason that they all share."""
    wide = torch.empty(8, 4096, dtype=torch.bfloat16, device=META)
    for chip in CHIPS:
        assert failures(planted(doubled(wide), chip)) == []
        assert failures(planted(softmax(warps=16), chip)) == []
        assert failures(planted(multiplied(128, 64), chip, products=True)) == []


@pytest.mark.parametrize("chip", CHIPS)
def test_spilled_registers_are_found(chip: str) -> None:
    """Catches a gate that does not see local memory on one of the chips."""
    outcomes = planted(softmax(warps=1), chip)
    assert only(outcomes).reading.spills > 0
    (problem,) = failures(outcomes)
    assert problem.startswith(f"planted, case, _sort_of_softmax, {chip}: spills registers: limit 0")
    assert failures(planted(softmax(warps=1), chip, spill_bytes=None)) == []
    found = only(outcomes).reading.stack
    assert failures(planted(softmax(warps=1), chip, spill_bytes=found)) == []
    (problem,) = failures(planted(softmax(warps=1), chip, spill_bytes=found - 1))
    assert f"spills registers: limit {found - 1}, found {found} bytes" in problem


def test_a_familys_spilling_tile_is_found() -> None:
    """Catches a bad row of a tile table, which is where spills come from."""
    from kernels.bench import rms_norm

    case = next(one for one in rms_norm.compile_cases() if one.name == "forward 4096 bf16")
    assert failures(compile_case("rms_norm", case, "sm_90")) == []
    with tiles.trying("norm.forward", {"ROWS": 4, "BLOCK": 4096, "num_warps": 1}):
        (problem,) = failures(compile_case("rms_norm", case, "sm_90"))
    assert "spills registers" in problem


@pytest.mark.parametrize("chip", CHIPS)
def test_lost_vector_loads_are_found(chip: str) -> None:
    """Catches loads of two bytes each, which a stride that 16 does not divide leads to."""
    odd = torch.empty(8, 4097, dtype=torch.bfloat16, device=META)[:, :4096]
    outcomes = planted(doubled(odd), chip)
    assert max(only(outcomes).reading.loads) == 16
    (problem,) = failures(outcomes)
    assert "narrow loads: limit 128 bits" in problem
    assert failures(planted(doubled(odd), chip, vector_bits=0)) == []


def test_one_tensors_lost_vectors_are_found_beside_anothers() -> None:
    """Catches a rule that looks at the widest load alone: the weight's stays wide."""
    from kernels.norm.forward import launch_forward

    odd = torch.empty(8, 4097, dtype=torch.bfloat16, device=META)[:, :4096]
    weight = torch.empty(4096, device=META)
    outcomes = planted(lambda: launch_forward(odd, None, weight, None, 1e-5, False, False))
    assert max(only(outcomes).reading.loads) == 128
    (problem,) = failures(outcomes)
    assert "narrow loads" in problem


@pytest.mark.parametrize("chip", CHIPS)
def test_products_without_tl_dot_are_found(chip: str) -> None:
    """Catches a product that is summed up element by element."""
    elementwise = multiplied(32, 16, ELEMENTWISE=True)
    outcomes = planted(elementwise, chip, products=True, spill_bytes=None, vector_bits=0)
    assert only(outcomes).reading.tensor_core == {}
    assert failures(outcomes) == [
        f"planted, case, {chip}: no kernel multiplies matrices; tl.dot expected"
    ]


def test_products_on_an_older_chips_tensor_cores_are_found() -> None:
    """Catches Hopper and Blackwell at Ampere's rate: their own instructions need 64 rows."""
    small = multiplied(16, 16)
    assert failures(planted(small, "sm_80", products=True, vector_bits=0)) == []
    for chip, wanted in (("sm_90", "HGMMA"), ("sm_100", "UTCHMMA")):
        (problem,) = failures(planted(small, chip, products=True, vector_bits=0))
        assert f"products off the tensor cores: {wanted}" in problem
        assert "found HMMA" in problem


@pytest.mark.parametrize("chip", CHIPS)
def test_too_much_shared_memory_is_found(chip: str) -> None:
    """Catches a pipeline that no chip can hold; Triton itself compiles it."""
    outcomes = planted(multiplied(128, 128, stages=6), chip, products=True)
    assert only(outcomes).reading.shared > tiles.SHARED_MEMORY[chip]
    (problem,) = failures(outcomes)
    assert f"too much shared memory: limit {tiles.SHARED_MEMORY[chip]} bytes" in problem


def test_what_does_not_compile_is_named() -> None:
    """Catches one broken kernel ending the whole gate, or being passed over."""
    x = torch.empty(8, 100, dtype=torch.bfloat16, device=META)
    (broken,) = planted(doubled(x, block=100))
    assert isinstance(broken, Broken)
    (problem,) = failures([broken])
    assert problem.startswith("planted, case, sm_90: does not compile: CompilationError")
    (empty,) = planted(lambda: None)
    assert isinstance(empty, Broken)


@pytest.fixture(scope="module")
def good() -> list[Outcome]:
    x = torch.empty(8, 4096, dtype=torch.bfloat16, device=META)
    return [*planted(doubled(x)), *planted(multiplied(128, 64), products=True, vector_bits=64)]


def test_the_table_comes_back_as_it_was_written(tmp_path: Path, good: list[Outcome]) -> None:
    """Catches a field that JSON changes, and rows of other families that a partial write drops."""
    path = tmp_path / "table.json"
    assert command.judge(good, path, ["planted"]).problems(differences=True) == []
    table.write_table(path, good, ["planted"])
    other = [Row(**vars(only(good[:1])) | {"family": "other"})]
    table.write_table(path, other, ["other"])
    assert command.judge(good, path, ["planted"]).problems(differences=True) == []
    assert command.judge(other, path, ["other"]).problems(differences=True) == []
    assert path.read_text().count("\n") == 2 + len(good) + len(other)


def changed(row: Outcome, **fields: Any) -> Row:
    assert isinstance(row, Row)
    reading = type(row.reading)(**vars(row.reading) | fields)
    return Row(**vars(row) | {"reading": reading})


def test_worse_code_is_a_regression_and_better_a_difference(
    tmp_path: Path, good: list[Outcome]
) -> None:
    """Catches a case whose own limits are loose getting worse unseen."""
    path = tmp_path / "table.json"
    table.write_table(path, good, ["planted"])
    before = table.read_table(path, ["planted"])
    assert before is not None
    load, product = good
    for row, words in (
        (changed(load, stack=8, spills=2), "spills more"),
        (changed(load, loads={64: 4}), "narrower loads: 128 bits in the table, found 64"),
        (changed(load, stores={32: 4}), "narrower stores"),
        (changed(product, tensor_core={"HMMA": 8}), "lost tensor-core instructions: HGMMA"),
    ):
        (problem,) = regressions([row], before)
        assert words in problem
    fewer = changed(load, registers=only([load]).reading.registers - 1)
    assert regressions([fewer, product], before) == []
    (difference,) = differences([fewer, product], before)
    assert "registers" in difference and "->" in difference
    (missing,) = differences([product], before)
    assert "nothing launches it any more" in missing
    (new,) = differences([load, product], {})[:1]
    assert new.endswith("is not in the table")


def test_the_command_says_what_is_wrong_and_refuses_to_write_it(
    tmp_path: Path,
    good: list[Outcome],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Catches --write as a way around the rules."""
    path = tmp_path / "table.json"
    now = list(good)
    monkeypatch.setattr(command, "collect", lambda families: now)
    monkeypatch.setattr(command, "table_path", lambda: path)
    command.gate_command(["planted"], write=True)
    written = path.read_text()
    assert "2 kernels compiled and read" in capsys.readouterr().out

    now[0] = changed(now[0], registers=99)
    with pytest.raises(GateFailed, match=r"1 rows differ from table\.json"):
        command.gate_command(["planted"], write=False)
    assert "registers" in capsys.readouterr().out

    now[0] = changed(now[0], spills=1)
    with pytest.raises(GateFailed, match="2 problems"):
        command.gate_command(["planted"], write=True)
    assert path.read_text() == written

    now[0] = changed(good[0], registers=99)
    command.gate_command(["planted"], write=True)
    assert path.read_text() != written


def test_the_real_driver_and_its_kernels_come_back() -> None:
    """Catches launches on a GPU running a stub's kernel, and a stub left behind by an error."""
    from triton.runtime import driver

    before, remembered = driver._active, {"device 0": "its kernels"}
    _double.device_caches.clear()
    _double.device_caches.update(remembered)
    x = torch.empty(8, 4096, dtype=torch.bfloat16, device=META)

    def fails() -> None:
        doubled(x)()
        raise RuntimeError("in the launcher")

    try:
        with pytest.raises(RuntimeError, match="in the launcher"):
            compile_launches(fails, "sm_90")
        assert driver._active is before
        assert dict(_double.device_caches) == remembered
    finally:
        _double.device_caches.clear()


def test_what_was_compiled_before_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a gate that Triton's cache on disk fools, into another chip's code or none."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    run = multiplied(128, 64)
    cold = [planted(run, chip, products=True) for chip in CHIPS]
    assert any(tmp_path.rglob("*.cubin"))
    warm = [planted(run, chip, products=True) for chip in CHIPS]
    assert warm == cold
    kinds = {kind for outcomes in warm for kind in only(outcomes).reading.tensor_core}
    assert kinds == {"HMMA", "HGMMA", "UTCHMMA"}


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Catches every kernel being called broken where only cuobjdump is missing."""
    from kernels.gate import read

    monkeypatch.setattr(read, "_TOOLS", tmp_path)
    x = torch.empty(8, 4096, dtype=torch.bfloat16, device=META)
    with pytest.raises(ToolMissing, match="cuobjdump is missing"):
        planted(doubled(x))


def test_a_chip_that_the_tool_does_not_know_is_one_line() -> None:
    """Catches a stack trace where Triton's nvdisasm is older than the chip."""
    unknown = Binary("SM1", bytes(16), registers=0, stack=0, shared=0, products=0)
    with pytest.raises(ToolFailed, match=r"^nvdisasm -b of Triton \S+: nvdisasm fatal .*SM1.*$"):
        read([unknown])
