"""Output projection + cross entropy: 8192 tokens of width 4096, vocabularies as for the latter."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from kernels.bench.case import BenchCase, CompileCase, Implementations, Sizes, TuneCase
from kernels.bench.checks.cross_entropy import linear_check_cases
from kernels.bench.cross_entropy import ALL, MODEL_VOCABULARIES, ODD, VOCABULARIES
from kernels.bench.peers import beside
from kernels.cross_entropy import IGNORE
from kernels.cross_entropy.backward import launch_rescale
from kernels.cross_entropy.forward import launch_forward
from kernels.cross_entropy.reference import reference
from kernels.linear_cross_entropy import linear_cross_entropy

ROWS = 8192
HIDDEN = 4096
CHUNK = 2048

LinearLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


def product_work(rows: int, hidden: int, vocab: int) -> int:
    """Operations of one product; the forward pass has one, the backward pass two."""
    return 2 * rows * hidden * vocab


check_cases = linear_check_cases
"""What it is held to beside fp64."""


def bench_cases(sizes: Sizes) -> Iterator[BenchCase]:
    """One product forward, two more backward; what is read and written hardly counts."""
    for vocab in VOCABULARIES if sizes == "sweep" else MODEL_VOCABULARIES:
        tensors, product = (ROWS + vocab) * HIDDEN * 2, product_work(ROWS, HIDDEN, vocab)
        size = f"{ROWS} x {HIDDEN} x {vocab} bf16"
        forward, both = partial(_forward, vocab), partial(_forward_and_backward, vocab)
        yield BenchCase("forward", size, vocab, tensors, product, forward)
        yield BenchCase("forward + backward", size, vocab, 2 * tensors, 3 * product, both)


def compile_cases() -> Iterator[CompileCase]:
    """A chunk's logits, in rows that are apart by more than an odd vocabulary; the correction."""
    yield CompileCase("chunk 128256 bf16", partial(_compile_chunk, 128_256, 128_256))
    # The end of a row is read an element at a time, in code beside that for whole vectors.
    stride = -(-ODD // 64) * 64
    run = partial(_compile_chunk, ODD, stride)
    yield CompileCase(f"chunk {ODD} bf16", run, vector_bits=0)
    yield CompileCase("correction 4096 fp32", _compile_rescale)


def tune_cases() -> Iterator[TuneCase]:
    """None: its kernels are those of cross entropy."""
    return iter(())


def _tensors(vocab: int, device: torch.device, *, learned: bool) -> list[Tensor]:
    """[hidden, weight, labels]; logits of about one unit."""
    hidden = torch.randn(ROWS, HIDDEN, dtype=torch.bfloat16, device=device)
    weight = torch.randn(vocab, HIDDEN, dtype=torch.bfloat16, device=device) / HIDDEN**0.5
    labels = torch.randint(vocab, (ROWS,), device=device)
    return [hidden.requires_grad_(learned), weight.requires_grad_(learned), labels]


def _forward(vocab: int, device: torch.device) -> Implementations:
    tensors = _tensors(vocab, device, learned=False)
    return {name: partial(loss, *tensors) for name, loss in _losses().items()}


def _forward_and_backward(vocab: int, device: torch.device) -> Implementations:
    tensors = _tensors(vocab, device, learned=True)
    return {name: partial(_loss_and_gradients, loss, *tensors) for name, loss in _losses().items()}


def _loss_and_gradients(
    loss: LinearLoss, hidden: Tensor, weight: Tensor, labels: Tensor
) -> tuple[Tensor, ...]:
    total = loss(hidden, weight, labels)
    return total.detach(), *torch.autograd.grad(total, [hidden, weight])


def _losses() -> dict[str, LinearLoss]:
    return beside(
        *(linear_cross_entropy, _eager),
        lambda ops: (
            lambda hidden, weight, labels: ops.LigerFusedLinearCrossEntropyFunction.apply(
                *(hidden, weight, labels, None, None, IGNORE, 0.0, 0.0, "sum"),
                *(None, False, torch.float32),  # sums the weight's gradient in fp32, as ours does
            )[0]
        ),
    )


def _eager(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return reference(hidden @ weight.t(), labels).sum()


def _compile_chunk(vocab: int, stride: int) -> object:
    meta = torch.device("meta")
    logits = torch.empty((CHUNK, stride), dtype=torch.bfloat16, device=meta)[:, :vocab]
    labels = torch.empty(CHUNK, dtype=torch.int64, device=meta)
    return launch_forward(logits, labels, ALL, torch.empty((), device=meta))


def _compile_rescale() -> None:
    number = torch.empty((), device="meta")
    launch_rescale(torch.empty((128_256, HIDDEN), device="meta"), number, number)
