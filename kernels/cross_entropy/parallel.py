"""The forward kernels of cross entropy over a sharded vocabulary, and their launchers.

Each rank packs its statistics of every row into four numbers; one all-gather exchanges them, and
every rank computes bitwise the same losses from them (Shoeybi et al. 2019, section 3).
"""

import torch
from torch import Tensor

from kernels.cross_entropy.forward import loss_of
from kernels.cross_entropy.row import LOG2_E, constants, label_of, read_row, row_of
from kernels.cross_entropy.terms import Terms, gather, slice_of
from kernels.language import tl, triton
from kernels.launch import launch
from kernels.tiles import tile


@triton.jit
def _partial(
    logits,
    labels,
    packed,
    rows,
    width,
    stride,
    first,
    vocab,
    ignore_index,
    SMOOTHED: tl.constexpr,
    ALIGNED: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A row a program: what this slice knows, (maximum, sum, label's logit, sum of logits)."""
    index = tl.program_id(0).to(tl.int64)
    label, wanted, _ = label_of(labels, index, first, width, vocab, ignore_index)
    row, begin = row_of(logits, index, stride, VECTOR, ALIGNED)
    target = tl.load(row + begin + label, mask=label >= 0, other=0.0).to(tl.float32)
    end = tl.where(wanted, begin + width, 0)
    highest, sums, total = read_row(row, begin, end, SMOOTHED, ALIGNED, False, VECTOR, BLOCK)
    tl.store(packed + index, highest)
    tl.store(packed + rows + index, sums)
    tl.store(packed + rows * 2 + index, target)
    tl.store(packed + rows * 3 + index, total)


@triton.jit
def _combine(
    gathered,
    labels,
    losses,
    statistics,
    rows,
    ranks,
    vocab,
    ignore_index,
    label_smoothing,
    z_loss,
    SMOOTHED: tl.constexpr,
    Z_LOSS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """BLOCK rows a program: losses and statistics from what every rank knows."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < rows
    label = tl.load(labels + index, mask=inside, other=0)
    highest = tl.full((BLOCK,), float("-inf"), tl.float32)
    for rank in range(ranks):
        here = gathered + rank * 4 * rows + index
        highest = tl.maximum(highest, tl.load(here, mask=inside, other=0.0))
    shift = tl.where(highest == float("-inf"), 0.0, highest)
    sums = tl.zeros((BLOCK,), tl.float32)
    target = tl.zeros((BLOCK,), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for rank in range(ranks):
        here = gathered + rank * 4 * rows + index
        top = tl.load(here, mask=inside, other=0.0)
        sums += tl.load(here + rows, mask=inside, other=1.0) * tl.exp2((top - shift) * LOG2_E)
        target += tl.load(here + rows * 2, mask=inside, other=0.0)
        total += tl.load(here + rows * 3, mask=inside, other=0.0)
    wanted = label != ignore_index
    unknown = (label < 0) | (label >= vocab)
    highest = tl.where(wanted, highest, 0.0)
    log2_sum = tl.log2(tl.where(wanted, sums, 1.0))
    loss, nats = loss_of(
        highest, log2_sum, target, total, vocab, label_smoothing, z_loss, SMOOTHED, Z_LOSS
    )
    loss = tl.where(unknown, float("nan"), loss)
    tl.store(losses + index, tl.where(wanted, loss, 0.0), mask=inside)
    tl.store(statistics + index, highest, mask=inside)
    tl.store(statistics + rows + index, log2_sum, mask=inside)
    if SMOOTHED or Z_LOSS:
        nats = tl.where(unknown, float("nan"), nats)
        tl.store(statistics + rows * 2 + index, tl.where(wanted, nats, 0.0), mask=inside)


def launch_partial(logits: Tensor, labels: Tensor, terms: Terms) -> Tensor:
    """The statistics of this rank's slice, fp32 [4, rows]: maximum, sum of exponentials, the
    label's logit, sum of logits.

    `logits`: fp32 or bf16 [rows, vocab / ranks]; `labels`: int64 [rows], ids of the whole one.
    """
    rows, width = logits.shape
    packed = torch.empty((4, rows), dtype=torch.float32, device=logits.device)
    launch(
        _partial,
        (rows,),
        *(logits, labels, packed, rows, width, logits.stride(0)),
        *slice_of(terms, width),
        terms.ignore_index,
        SMOOTHED=terms.label_smoothing > 0,
        **constants("forward", logits),
    )
    return packed


def launch_combine(
    gathered: Tensor, labels: Tensor, terms: Terms, vocab: int
) -> tuple[Tensor, Tensor]:
    """(losses fp32 [rows], statistics fp32 [terms.statistics, rows]).

    `gathered`: fp32 [ranks, 4, rows], what each rank's `launch_partial` gave; `labels`: int64
    [rows]; `vocab`: of all ranks together.
    """
    ranks, _, rows = gathered.shape
    losses = torch.empty(rows, dtype=torch.float32, device=gathered.device)
    statistics = torch.empty((terms.statistics, rows), dtype=torch.float32, device=gathered.device)
    chosen = tile("cross_entropy.combine", rows, gathered.device)
    launch(
        _combine,
        (triton.cdiv(rows, chosen["BLOCK"]),),
        *(gathered, labels, losses, statistics, rows, ranks, vocab),
        *terms[1:],
        SMOOTHED=terms.label_smoothing > 0,
        Z_LOSS=terms.z_loss > 0,
        **chosen,
    )
    return losses, statistics


def parallel_losses(logits: Tensor, labels: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
    """As `launch_forward`, of the whole vocabulary: equal on all ranks to the last bit.

    `logits`: fp32 or bf16 [rows, vocab / ranks], this rank's slice.
    """
    packed = launch_partial(logits, labels, terms)
    _, vocab = slice_of(terms, logits.shape[1])
    return launch_combine(gather(packed, terms), labels, terms, vocab)
