"""A run on GPUs: beside the CPU's curve, and what it writes that no CPU run does."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.bench.gpu.curve import STEPS, TOLERANCE, VOCAB, compare_curves, train_words
from trainer.bench.tokens import made_corpus
from trainer.cli import main
from trainer.errors import ClusterError
from trainer.model.initialize import fill_box
from trainer.observe import read_metrics
from trainer.parallel.join import choose_device
from trainer.parallel.sharding import Box
from trainer.plan.devices import peak_flops


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "corpus"
    return made_corpus(folder, 128, VOCAB, rows=8 * STEPS)


def losses_of(run: Path, words: Sequence[str]) -> list[float]:
    subprocess.run(words, check=True)
    return [record["loss"] for record in read_metrics(run)]


@pytest.mark.gpu(
    reason="on a CPU megatron-core's CUDA calls and generators are replaced, and gloo moves what "
    "ranks agree on"
)
def test_a_gpu_trains_the_cpus_curve(tmp_path: Path) -> None:
    """Catches a step that is right on the CPU alone."""
    assert compare_curves(tmp_path / "curve.json", ["cpu", "cuda"]) <= TOLERANCE


@pytest.mark.gpu(
    count=2,
    reason="NCCL between ranks, sends in one batch (on gloo they are overlapped), and ranks that "
    "are new processes instead of forks",
)
@pytest.mark.parametrize(
    "keys", ["parallel.tensor=2", "parallel.pipeline=2", "parallel.context=2", "zero.stage=2"]
)
def test_two_gpus_train_the_cpus_curve(tmp_path: Path, corpus: Path, keys: str) -> None:
    """Catches a group, a send or a bandwidth-saving sum that only NCCL takes in another order."""
    right = losses_of(tmp_path / "cpu", train_words(tmp_path / "cpu", "cpu", corpus))
    words = [*train_words(tmp_path / "two", "cuda", corpus), keys, "--nproc", "2"]
    found = losses_of(tmp_path / "two", words)
    assert found == pytest.approx(right, abs=TOLERANCE)


@pytest.fixture(scope="module")
def gpu_run(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """Two steps of tiny in bf16 that save themselves, with a trace of the second."""
    run = tmp_path_factory.mktemp("gpu") / "run"
    words = [*train_words(run, "cuda", corpus), "precision=bf16", "profile.steps=[2,2]"]
    subprocess.run(
        [*words, "steps=2", "schedule.length=4", "checkpoint.save_final=true"], check=True
    )
    return run


@pytest.mark.gpu(reason="a CPU run states its resident set, and a CPU's peak is not known")
def test_memory_and_mfu_are_the_gpus(gpu_run: Path) -> None:
    """Catches the host's memory shown as the GPU's, and a share of the peak beyond it."""
    for record in read_metrics(gpu_run):
        assert 0 < record["memory_gib"] < 2, "tiny's; the host's resident set is larger"
        if peak_flops(torch.device("cuda")) is not None:
            assert 0 < record["mfu"] < 1


@pytest.mark.gpu(reason="on a CPU the profiler records the CPU's activities alone")
def test_the_trace_holds_the_gpus_kernels(gpu_run: Path) -> None:
    """Catches a trace in which the device does nothing."""
    (trace,) = (gpu_run / "trace").glob("*.json")
    events: list[dict[str, Any]] = json.loads(trace.read_text())["traceEvents"]
    assert any(event.get("cat") == "kernel" for event in events)


@pytest.mark.gpu(reason="on a CPU no attention back end is measured, or remembered")
def test_a_resumed_run_computes_with_the_same_back_ends(gpu_run: Path, corpus: Path) -> None:
    """Catches a choice that is measured anew: the run would round otherwise from there on."""
    before = (gpu_run / "kernels.json").read_text()
    assert json.loads(before)["attention"]
    words = train_words(gpu_run, "cuda", corpus)
    subprocess.run([*words, "precision=bf16", "steps=4", "schedule.length=4"], check=True)
    assert [record["step"] for record in read_metrics(gpu_run)] == [1, 2, 3, 4]
    assert (gpu_run / "kernels.json").read_text() == before


@pytest.mark.gpu(reason="without a GPU there is none to count")
def test_a_rank_beyond_the_machines_gpus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches two ranks on one GPU, which NCCL would only refuse much later."""
    monkeypatch.setenv("LOCAL_RANK", str(torch.cuda.device_count()))
    with pytest.raises(ClusterError, match="has no GPU: this machine shows"):
        choose_device("cuda")


@pytest.mark.gpu(
    reason="NCCL's groups, DeepSpeed's CUDA engine, pinned memory for optimizer, activations, "
    "batches and readings, moments in the device's queue, layers compiled for CUDA, a pipeline's "
    "freed outputs: a CPU has gloo, copies at once, and waits for nothing"
)
def test_the_doctor_finds_nothing_wrong(tmp_path: Path) -> None:
    """Catches a way through a step that breaks, differs, or waits for the device, on NCCL."""
    file = tmp_path / "doctor.json"
    assert main(["doctor", "--self-test", "--device", "cuda", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert found["backend"] == "nccl"
    assert "needs a GPU" not in {one["reason"] for one in found["checks"]}


@pytest.mark.gpu(reason="only CUDA's allocator refuses to be asked before the device is in use")
def test_peak_memory_is_counted_from_a_processes_first_call() -> None:
    """Catches a benchmark that stops because nothing had used the GPU before it."""
    reset = "import torch; from trainer.bench.clock import reset_peak_memory as reset; "
    words = [sys.executable, "-c", reset + "reset(torch.device('cuda', 0))"]
    subprocess.run(words, check=True)


@pytest.mark.gpu(reason="on a CPU there is no other device to draw on")
def test_a_gpu_begins_with_the_cpus_weights() -> None:
    """Catches weights drawn by the device: every curve would differ from the CPU's at step 1."""
    box = Box("layers.0.weight", (3000, 64), (1000, 0), 0, slice(0, 1500))
    found = []
    for device in ("cpu", "cuda"):
        target = torch.zeros(box.shape, device=device)
        fill_box(target, box, 0.02, seed=7)
        found.append(target.cpu())
    assert found[0].count_nonzero() > 0
    assert torch.equal(*found)
