"""Cross entropy's backward kernel, the kernel that rescales an early gradient, and launchers."""

from torch import Tensor

from kernels.cross_entropy.row import LN_2, LOG2_E, constants, label_of, load, row_of, store
from kernels.cross_entropy.terms import Terms, slice_of
from kernels.language import tl, triton
from kernels.launch import launch
from kernels.tiles import processors, tile


@triton.jit
def write_gradient(
    row,
    out,
    begin,
    end,
    label_column,
    wanted,
    upstream,
    highest,
    log2_sum,
    vocab,
    label_smoothing,
    z_loss,
    ALIGNED: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """(p * (1 + 2 z lse) - smoothing / vocab - (1 - smoothing) at the label) * upstream."""
    lane = tl.arange(0, BLOCK // VECTOR)[:, None] * VECTOR + tl.arange(0, VECTOR)[None, :]
    of_probability = upstream * (1.0 + 2.0 * z_loss * (highest + log2_sum * LN_2))
    of_all = upstream * label_smoothing / vocab
    of_label = upstream * (1.0 - label_smoothing)
    for start in range(0, end, BLOCK):
        columns = start + lane
        whole = (start >= begin) & (start + BLOCK <= end)
        values = load(row, columns, begin, end, whole, wanted, ALIGNED, False)
        probability = tl.exp2((values - highest) * LOG2_E - log2_sum)
        gradient = probability * of_probability - of_all
        gradient = tl.where(columns == label_column, gradient - of_label, gradient)
        store(out, columns, begin, end, whole, gradient, ALIGNED)


@triton.jit
def _backward(
    logits,
    upstream,
    labels,
    statistics,
    out,
    rows,
    width,
    stride,
    out_stride,
    upstream_stride,
    first,
    vocab,
    ignore_index,
    label_smoothing,
    z_loss,
    SAME_STRIDE: tl.constexpr,
    ALIGNED: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A row a program: the gradient into `out`, which may be the logits."""
    index = tl.program_id(0).to(tl.int64)
    label, wanted, poison = label_of(labels, index, first, width, vocab, ignore_index)
    row, begin = row_of(logits, index, stride, VECTOR, ALIGNED)
    if SAME_STRIDE or ALIGNED:
        out_row, _ = row_of(out, index, out_stride, VECTOR, ALIGNED)
    else:
        out_row = out + index * out_stride - begin
    gradient = tl.load(upstream + index * upstream_stride).to(tl.float32) + poison
    write_gradient(
        row,
        out_row,
        begin,
        begin + width,
        tl.where(label >= 0, begin + label, -1),
        wanted,
        tl.where(wanted, gradient, 0.0),
        tl.load(statistics + index),
        tl.load(statistics + rows + index),
        vocab,
        label_smoothing,
        z_loss,
        ALIGNED,
        VECTOR,
        BLOCK,
    )


@triton.jit
def _rescale(
    gradient, upstream, expected, rows, width, stride, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """A share of the rows a program: gradient *= upstream / expected; nothing where that is 1."""
    found, hoped = tl.load(upstream).to(tl.float32), tl.load(expected)
    if found != hoped:
        ratio = found / hoped
        program, programs = tl.program_id(0), tl.num_programs(0)
        for start in range(program * ROWS, rows, programs * ROWS):
            row = (start + tl.arange(0, ROWS)).to(tl.int64)[:, None]
            for left in range(0, width, BLOCK):
                columns = left + tl.arange(0, BLOCK)[None, :]
                inside = (row < rows) & (columns < width)
                pointers = gradient + row * stride + columns
                values = tl.load(pointers, mask=inside, other=0.0).to(tl.float32) * ratio
                tl.store(pointers, values.to(gradient.dtype.element_ty), mask=inside)


def launch_backward(
    upstream: Tensor,
    logits: Tensor,
    labels: Tensor,
    statistics: Tensor,
    out: Tensor,
    terms: Terms,
) -> None:
    """The gradient into `out`, fp32 or bf16 [rows, vocab], which may be the logits themselves.

    `upstream`: fp32 [rows], or [] for all of them; `logits`: [rows, vocab], or this rank's slice;
    `labels`: int64 [rows]; `statistics`: fp32 [2 or 3, rows], from the forward pass.
    """
    rows, width = logits.shape
    launch(
        _backward,
        (rows,),
        *(logits, upstream, labels, statistics, out, rows, width),
        *(logits.stride(0), out.stride(0), upstream.stride(0) if upstream.dim() else 0),
        *slice_of(terms, width),
        *terms[1:],
        SAME_STRIDE=out.stride(0) == logits.stride(0),
        **constants("backward", logits, out.stride(0)),
    )


def launch_rescale(gradient: Tensor, upstream: Tensor, expected: Tensor) -> None:
    """The gradient, [rows, width], times upstream / expected, both fp32 [].

    Few programs, for mostly the two are equal.
    """
    rows, width = gradient.shape
    chosen = tile("cross_entropy.rescale", width, gradient.device)
    per_processor = chosen.pop("PROGRAMS")
    programs = min(triton.cdiv(rows, chosen["ROWS"]), processors(gradient.device) * per_processor)
    arguments = (gradient, upstream, expected, rows, width, gradient.stride(0))
    launch(_rescale, (programs,), *arguments, **chosen)
