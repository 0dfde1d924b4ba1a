"""The forward kernel of cross entropy without tensor parallelism, and its launcher."""

import torch
from torch import Tensor

from kernels.cross_entropy.backward import write_gradient
from kernels.cross_entropy.row import LN_2, constants, label_of, read_row, row_of
from kernels.cross_entropy.terms import Terms
from kernels.language import tl, triton
from kernels.launch import launch


@triton.jit
def loss_of(
    highest,
    log2_sum,
    target,
    total,
    vocab,
    label_smoothing,
    z_loss,
    SMOOTHED: tl.constexpr,
    Z_LOSS: tl.constexpr,
):
    """(a row's loss, its plain cross entropy) from its statistics.

    `highest`: its highest logit; `log2_sum`: of the sum of exponentials above that; `target`: its
    label's logit; `total`: the sum of its logits.
    """
    # Differences of logits first: they are exact where a logit is large and its loss small.
    log_sum = log2_sum * LN_2
    loss = highest - target
    nats = loss + log_sum
    if SMOOTHED:
        loss = (1.0 - label_smoothing) * loss + label_smoothing * (highest - total / vocab)
    loss += log_sum
    if Z_LOSS:
        loss += z_loss * (highest + log_sum) * (highest + log_sum)
    return loss, nats


@triton.jit
def _forward(
    logits,
    labels,
    expected,
    losses,
    statistics,
    rows,
    width,
    stride,
    ignore_index,
    label_smoothing,
    z_loss,
    GRADIENT: tl.constexpr,
    SMOOTHED: tl.constexpr,
    Z_LOSS: tl.constexpr,
    ALIGNED: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A row a program: its loss and statistics, and the gradient over the logits themselves."""
    index = tl.program_id(0).to(tl.int64)
    label, wanted, poison = label_of(labels, index, 0, width, width, ignore_index)
    row, begin = row_of(logits, index, stride, VECTOR, ALIGNED)
    end = begin + width
    # Before the reductions, whose barriers keep it ahead of the gradient's stores.
    target = tl.load(row + begin + label, mask=label >= 0, other=0.0).to(tl.float32)
    highest, sums, total = read_row(
        row, begin, tl.where(wanted, end, 0), SMOOTHED, ALIGNED, GRADIENT, VECTOR, BLOCK
    )
    highest = tl.where(wanted, highest, 0.0)
    log2_sum = tl.log2(tl.where(wanted, sums, 1.0))
    loss, nats = loss_of(
        highest, log2_sum, target, total, width, label_smoothing, z_loss, SMOOTHED, Z_LOSS
    )
    tl.store(losses + index, tl.where(wanted, poison + loss, 0.0))
    tl.store(statistics + index, highest)
    tl.store(statistics + rows + index, log2_sum)
    if SMOOTHED or Z_LOSS:
        tl.store(statistics + rows * 2 + index, tl.where(wanted, poison + nats, 0.0))
    if GRADIENT:
        upstream = tl.where(wanted, tl.load(expected) + poison, 0.0)
        write_gradient(
            row,
            row,
            begin,
            end,
            tl.where(label >= 0, begin + label, -1),
            wanted,
            upstream,
            highest,
            log2_sum,
            width,
            label_smoothing,
            z_loss,
            ALIGNED,
            VECTOR,
            BLOCK,
        )


def launch_forward(
    logits: Tensor, labels: Tensor, terms: Terms, expected: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(losses fp32 [rows], statistics fp32 [terms.statistics, rows]).

    `logits`: fp32 or bf16 [rows, vocab]; `labels`: int64 [rows]. With `expected`, an upstream
    gradient, fp32 [], the logits become the gradient.
    """
    rows, width = logits.shape
    losses = torch.empty(rows, dtype=torch.float32, device=logits.device)
    statistics = torch.empty((terms.statistics, rows), dtype=torch.float32, device=logits.device)
    launch(
        _forward,
        (rows,),
        logits,
        labels,
        expected if expected is not None else losses,
        losses,
        statistics,
        rows,
        width,
        logits.stride(0),
        terms.ignore_index,
        terms.label_smoothing,
        terms.z_loss,
        GRADIENT=expected is not None,
        SMOOTHED=terms.label_smoothing > 0,
        Z_LOSS=terms.z_loss > 0,
        **constants("forward", logits),
    )
    return losses, statistics
