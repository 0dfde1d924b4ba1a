import mmap

import pytest
import torch
from torch import nn

from kernels import Visible
from tests.observe.starting import recipe
from trainer.observe import Throughput, memory_gib
from trainer.observe.throughput import GIB
from trainer.plan.devices import named_peak, peak_flops
from trainer.plan.size import flops_per_token, matrix_parameters, parameter_count

CPU = torch.device("cpu")


@pytest.mark.parametrize("tied", [False, True])
def test_the_counted_parameters_are_those_of_the_matrices(tied: bool) -> None:
    """Would catch an MFU that counts the input embedding, or forgets a tied output layer."""
    model = recipe(model={**recipe().model.model_dump(), "tied_embeddings": tied}).model
    count = parameter_count(model, 256)
    norms = model.layers * 2 * model.hidden
    assert matrix_parameters(model, 256) == count["layers"] - norms + 256 * model.hidden


def test_flops_are_those_that_a_product_of_matrices_takes() -> None:
    """Would catch a factor lost: forward costs 2, backward 4 operations a parameter and token."""
    model = recipe().model
    layers = [nn.Linear(64, 64), nn.Linear(64, 32), nn.Linear(64, 32), nn.Linear(64, 64)]
    layers += [nn.Linear(64, 128), nn.Linear(64, 128), nn.Linear(128, 64)]
    matrices = 4 * sum(layer.weight.numel() for layer in layers) + 256 * 64
    # Queries times keys and scores times values: 2 x 2 S H, half of it causal, three times over.
    attention = 4 * 3 * (2 * 2 * 32 * 64) / 2
    assert flops_per_token(model, 32, 256) == 6 * matrices + attention


def test_a_window_leaves_the_pairs_that_it_lets_see() -> None:
    """Would catch an MFU that counts what a window hides, or the windows of the wrong layers."""
    whole = recipe().model
    pattern = {"window": 100, "window_pattern": ("local", "global", "local")}
    windowed = whole.model_copy(update=pattern)
    assert windowed.windows == (100, None, 100, 100)
    pairs = [int(Visible.causal(1, 1024, window=w).dense().sum()) for w in windowed.windows]
    attention = flops_per_token(windowed, 1024, 256) - 6 * matrix_parameters(windowed, 256)
    # The causal half leaves out half of the diagonal.
    assert attention * 1024 == pytest.approx(12 * 64 * sum(pairs), rel=1e-2)
    wide = whole.model_copy(update={"window": 1024})
    assert flops_per_token(wide, 1024, 256) == flops_per_token(whole, 1024, 256)


def test_the_known_figure_of_an_8b_model() -> None:
    """Would catch a formula other than the one in which the goals are stated."""
    llama = {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "ffn": 14336}
    model = recipe(model=llama).model
    assert flops_per_token(model, 8192, 128256) == pytest.approx(
        6 * 7_504_658_432 + 6 * 32 * 4096 * 8192
    )


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA B200", 2.25e15),
        ("NVIDIA GB200", 2.5e15),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_peaks_go_by_the_name_of_the_device(name: str, peak: float | None) -> None:
    """Would catch an MFU against another card's peak, or a guessed one."""
    assert named_peak(name) == peak


def test_rates_follow_from_tokens_and_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch rates of one rank reported as the run's, or the other way round."""
    model = recipe().model
    flops = flops_per_token(model, 32, 256)
    rates = Throughput(model, 32, 256, world_size=4, device=CPU).rates(1000, 0.5)
    assert rates["tokens_per_second"] == 2000
    assert rates["tflops_per_device"] == pytest.approx(2000 * flops / 4 / 1e12)
    assert rates["mfu"] is None and peak_flops(CPU) is None
    monkeypatch.setattr("trainer.observe.throughput.peak_flops", lambda _: 1e12)
    known = Throughput(model, 32, 256, world_size=4, device=CPU).rates(1000, 0.5)
    assert known["mfu"] == pytest.approx(2000 * flops / 4 / 1e12)


def test_memory_is_what_is_resident() -> None:
    """Would catch a unit lost, or address space taken for memory."""
    before = memory_gib(CPU)
    size = 64 * 1024 * 1024
    with mmap.mmap(-1, size) as mapped:
        untouched = memory_gib(CPU) - before
        mapped.write(b"x" * size)
        touched = memory_gib(CPU) - before
    assert untouched < 0.01
    assert size / GIB <= touched < 4 * size / GIB
