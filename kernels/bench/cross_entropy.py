"""Cross entropy: vocabularies of 32,000 to 256,000 ids, 8192 tokens, bf16."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kernels.bench.case import BenchCase, CompileCase, Implementations, Sizes, TuneCase, on_meta
from kernels.bench.checks.cross_entropy import check_cases as check_cases
from kernels.bench.peers import beside
from kernels.cross_entropy import IGNORE, cross_entropy
from kernels.cross_entropy.backward import launch_backward, launch_rescale
from kernels.cross_entropy.forward import launch_forward
from kernels.cross_entropy.parallel import launch_combine, launch_partial
from kernels.cross_entropy.reference import reference
from kernels.cross_entropy.terms import Terms

ROWS = 8192
VOCABULARIES = (32_000, 64_000, 128_256, 151_936, 256_000)
MODEL_VOCABULARIES = (128_256,)
SLICE = 128_256 // 8
"""What a rank has of Llama 3's vocabulary, tensor-parallel over a node."""

ODD = 50_257
"""GPT-2's vocabulary, whose rows start anywhere in a vector."""

PLAIN = Terms("", IGNORE, 0.0, 0.0)
ALL = Terms("", IGNORE, 0.1, 1e-4)

Loss = Callable[[Tensor, Tensor], Tensor]


def traffic(rows: int, vocab: int, size: int = 2) -> int:
    """Bytes of the sum and its gradient: the logits are read and written once."""
    return 2 * rows * vocab * size


def bench_cases(sizes: Sizes) -> Iterator[BenchCase]:
    """The sum and its gradient, which cannot take less than reading and writing the logits once."""
    for vocab in VOCABULARIES if sizes == "sweep" else MODEL_VOCABULARIES:
        moved = traffic(ROWS, vocab)
        size = f"{ROWS} x {vocab} bf16"
        prepare = partial(_forward_and_backward, vocab)
        yield BenchCase("forward + backward", size, vocab, moved, 0, prepare)


def compile_cases() -> Iterator[CompileCase]:
    """Whole vocabularies, a rank's slice, and rows off the vectors' boundaries."""
    for vocab in (1024, 8192, 32_000, 128_256):
        for name, terms in (("", PLAIN), (" smoothing z-loss", ALL)):
            early = on_meta(_launched_forward, vocab, terms, True)
            yield CompileCase(f"forward with gradient {vocab} bf16{name}", early)
    yield CompileCase("forward 128256 bf16", on_meta(_launched_forward, 128_256, PLAIN, False))
    yield CompileCase("backward 128256 bf16", on_meta(_launched_backward, 128_256, ALL))
    for name, terms in (("", PLAIN), (" smoothing z-loss", ALL)):
        part = partial(_compile_partial, SLICE, terms)
        yield CompileCase(f"forward of a slice {SLICE} bf16{name}", part)
    yield CompileCase(f"backward {SLICE} bf16", on_meta(_launched_backward, SLICE, ALL))
    # Both ends of a row are read an element at a time, in code beside that for whole vectors.
    run = on_meta(_launched_forward, ODD, ALL, True)
    yield CompileCase(f"forward with gradient {ODD} bf16", run, vector_bits=0)
    yield CompileCase(f"backward {ODD} bf16", on_meta(_launched_backward, ODD, ALL), vector_bits=0)
    # A few numbers a token.
    yield CompileCase("combination of 8 ranks", _compile_combine, vector_bits=0)
    yield CompileCase("correction 128256 bf16", partial(_compile_rescale, 128_256))


def tune_cases() -> Iterator[TuneCase]:
    """Columns and warps a program; the backward pass has no second pass that wants the L2 cache."""
    for vocab in (8192, 32_768, 128_256):
        shapes = [
            {"BLOCK": block, "num_warps": warps}
            for block in (2048, 4096, 8192, 16_384)
            for warps in (4, 8, 16, 32)
            if block <= vocab and 8 <= block // (32 * warps) <= 32
        ]
        yield TuneCase(
            "cross_entropy.forward", vocab, shapes, partial(_launched_forward, vocab, PLAIN, True)
        )
        yield TuneCase(
            "cross_entropy.backward", vocab, shapes, partial(_launched_backward, vocab, PLAIN)
        )


def _tensors(vocab: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(logits, labels)."""
    logits = torch.randn(ROWS, vocab, dtype=torch.bfloat16, device=device)
    return logits, torch.randint(vocab, (ROWS,), device=device)


def _forward_and_backward(vocab: int, device: torch.device) -> Implementations:
    logits, labels = _tensors(vocab, device)
    ours: Loss = partial(cross_entropy, reduction="sum", inplace=True)
    # Each its own logits: some are overwritten, with what is again good for logits.
    return {
        name: partial(_loss_and_gradient, loss, logits.clone().requires_grad_(), labels)
        for name, loss in beside(ours, _eager, _ligers).items()
    }


def _loss_and_gradient(loss: Loss, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    # A view is no leaf, as a projection's output is none, and costs nothing.
    total = loss(logits.view_as(logits), labels)
    return total.detach(), torch.autograd.grad(total, [logits])[0]


def _eager(logits: Tensor, labels: Tensor) -> Tensor:
    return reference(logits, labels).sum()


def _ligers(ops: Any) -> Loss:
    return lambda logits, labels: ops.LigerCrossEntropyFunction.apply(
        logits, labels, None, IGNORE, 0.0, 0.0, "sum"
    )[0]


def _launched_forward(
    vocab: int, terms: Terms, with_gradient: bool, device: torch.device
) -> Callable[[], object]:
    expected = torch.ones((), device=device) if with_gradient else None
    return partial(launch_forward, *_tensors(vocab, device), terms, expected)


def _launched_backward(vocab: int, terms: Terms, device: torch.device) -> Callable[[], object]:
    logits, labels = _tensors(vocab, device)
    upstream, statistics = torch.ones(ROWS, device=device), torch.ones(2, ROWS, device=device)
    return partial(launch_backward, upstream, logits, labels, statistics, logits, terms)


def _compile_partial(vocab: int, terms: Terms) -> object:
    return launch_partial(*_tensors(vocab, torch.device("meta")), terms)


def _compile_combine() -> object:
    labels = torch.empty(ROWS, dtype=torch.int64, device="meta")
    return launch_combine(torch.empty((8, 4, ROWS), device="meta"), labels, ALL, 128_256)


def _compile_rescale(vocab: int) -> None:
    logits, _ = _tensors(vocab, torch.device("meta"))
    number = logits.new_empty((), dtype=torch.float32)
    launch_rescale(logits, number, number)
