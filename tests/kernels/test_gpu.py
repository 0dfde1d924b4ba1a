"""Kernels on a GPU: compiled, dispatched to by themselves, timed by its events."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kernels import dispatch, tiles
from kernels.attention.choices import cuda_milliseconds
from kernels.bench.families import families, load
from kernels.bench.measure import GpuClock, measure
from kernels.bench.tune import tune_family
from kernels.command import kernels_command, measure_case
from kernels.cross_entropy import cross_entropy


@pytest.mark.gpu(
    reason="the interpreter runs one program after the other and reads plain tensors; the gate "
    "compiles and runs nothing; torch adds bf16 products to an fp32 gradient on CUDA alone"
)
@pytest.mark.parametrize("family", families())
def test_compiled_kernels_are_right(family: str, tmp_path: Path) -> None:
    """Catches wrong numbers, races and addresses of compiled kernels: raises CheckFailed."""
    file = tmp_path / "kernels.json"
    kernels_command(family, check=True, json_file=file)
    found = json.loads(file.read_text())
    assert found["implementation"].startswith("Triton, compiled, on ")
    assert {one["failure"] for one in found["cases"]} == {None}


@pytest.mark.gpu(reason="only tensors on a GPU ask for Triton without LYCEUM_KERNELS")
def test_a_gpu_runs_triton_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a GPU on which the PyTorch references run, and nobody notices."""
    monkeypatch.setattr(dispatch, "MODE", "")
    assert dispatch.use_triton(torch.empty(0, device="cuda"))
    assert not dispatch.use_triton(torch.empty(0))


@pytest.mark.gpu(reason="a CPU takes the default tiles; the tables were written by hand")
def test_tiles_are_the_chips(device: torch.device) -> None:
    """Catches a chip whose capability the tables misread."""
    major, minor = torch.cuda.get_device_capability(device)
    assert tiles.chip(device) == f"sm_{major}{minor}"
    assert (
        tiles.processors(device) == torch.cuda.get_device_properties(device).multi_processor_count
    )
    for kernel in ("norm.forward", "glu.forward"):
        rows = tiles._rows(kernel, tiles.chip(device))
        assert (
            tiles.tile(kernel, 4096, device).items()
            <= next(row for row in rows if row["up_to"] >= 4096).items()
        )


@pytest.mark.gpu(reason="tuning needs measured times; tests bring a clock of their own")
def test_tuning_rewrites_the_chips_rows(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches candidates that do not compile for this chip, and rows under another's name."""
    for file in tiles.FOLDER.glob("*.json"):
        shutil.copy(file, tmp_path)
    monkeypatch.setattr(tiles, "FOLDER", tmp_path)
    tiles.table.cache_clear()
    tiles._tile.cache_clear()
    try:
        tune_family("glu", device, GpuClock(device), "this test")
    finally:
        tiles.table.cache_clear()
        tiles._tile.cache_clear()
    source = json.loads((tmp_path / "glu.json").read_text())["source"]
    assert "measured on this test" in source[tiles.chip(device)]


@pytest.mark.gpu(reason="on a CPU wrong labels are looked at, and named")
@pytest.mark.parametrize("label", [8, -1])
def test_wrong_labels_give_nan(label: int, device: torch.device) -> None:
    """Catches a label beyond the vocabulary that reads another row's memory."""
    logits = torch.randn(2, 8, device=device)
    losses = cross_entropy(logits, torch.tensor([0, label], device=device))
    assert losses.isnan().any()


@pytest.mark.gpu(reason="there are no events on a CPU, whose tests bring a clock of their own")
def test_calls_are_timed_by_events(device: torch.device) -> None:
    """Catches a clock that measures the queueing: a larger product must take longer."""

    def product(side: int) -> Callable[[], object]:
        matrix = torch.randn(side, side, device=device)
        return lambda: matrix @ matrix

    small, large = product(256), product(4096)
    assert 0 < cuda_milliseconds(small) < cuda_milliseconds(large)
    clock = GpuClock(device)
    assert 0 < measure(small, clock).median_seconds < measure(large, clock).median_seconds
    assert measure(large, clock).peak_bytes >= 4096 * 4096 * 4


@pytest.mark.gpu(reason="peers (torch.compile, Liger, flash-attn) are measured on a GPU alone")
@pytest.mark.parametrize("family", ["rms_norm", "glu"])
def test_peers_are_measured(family: str, device: torch.device) -> None:
    """Catches a peer whose call no longer fits its library: its failure would be all we show."""
    from kernels.bench.ceilings import H200

    case = next(iter(load(family).bench_cases("model")))
    results = list(measure_case(family, case, H200, device, GpuClock(device)))
    assert {"lyceum", "compile"} <= {one.implementation for one in results}
    assert [one.failure for one in results if one.failure] == []
