"""Cross entropy's kernels against fp64, in one process and over ranks that share the vocabulary."""

from typing import Any

import pytest
import torch
from torch import Tensor

from kernels import tiles
from kernels.cross_entropy import (
    IGNORE,
    cross_entropy,
    cross_entropy_with_nats,
    operator,
    row,
)
from kernels.cross_entropy.backward import launch_backward
from kernels.cross_entropy.forward import launch_forward
from kernels.cross_entropy.parallel import launch_combine, launch_partial
from kernels.cross_entropy.reference import reference, reference_gradient, reference_losses
from kernels.cross_entropy.terms import Terms
from tests.kernels.oracle import DTYPES, ODD_WIDTHS, assert_close, tolerance, wide
from tests.kernels.vocabulary_ranks import compute
from tests.parity.ranks import on_ranks

PLAIN = Terms("", IGNORE, 0.0, 0.0)
BOTH = {"label_smoothing": 0.1, "z_loss": 1e-2}
WAYS: dict[str, dict[str, Any]] = {
    "apart": {},
    "in place": {"inplace": True},
    "early": {"inplace": True, "reduction": "sum"},
}
SMALL = {"BLOCK": 64, "num_warps": 1}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows take several blocks, with ends that fill theirs and ends that don't."""
    monkeypatch.setattr(row, "tile", lambda *_: dict(SMALL))


def random(
    *shape: int, dtype: torch.dtype = torch.float32, device: torch.device, scale: float = 3.0
) -> Tensor:
    return (scale * torch.randn(shape, device=device)).to(dtype).requires_grad_()


def some_labels(logits: Tensor, ignored: int | None = 0) -> Tensor:
    """Random ids, one of them (by its place) not supervised."""
    labels = torch.randint(logits.shape[-1], logits.shape[:-1], device=logits.device)
    if ignored is not None and labels.numel() > 1:
        labels.view(-1)[ignored] = IGNORE
    return labels


def right(logits: Tensor, labels: Tensor, **options: Any) -> Tensor:
    """By the definition, in the logits' precision; independent of our reference."""
    smoothing, z_loss = options.get("label_smoothing", 0.0), options.get("z_loss", 0.0)
    ignored = labels == options.get("ignore_index", IGNORE)
    normaliser = logits.logsumexp(-1)
    own = logits.gather(-1, labels.masked_fill(ignored, 0).unsqueeze(-1)).squeeze(-1)
    losses = normaliser - (1 - smoothing) * own
    if smoothing:
        losses = losses - smoothing * logits.mean(-1)
    return (losses + z_loss * normaliser**2).masked_fill(ignored, 0.0)


def hold(logits: Tensor, labels: Tensor, upstream: Tensor | None = None, **options: Any) -> None:
    """Our losses and gradient are right.

    Losses are differences of logits, fp32 sums over the vocabulary in them; the gradient is at most
    upstream * (1 + 2 * z_loss * |lse|), from sums as long, and rounded once.
    """
    if upstream is None:
        upstream = torch.randn(labels.shape, device=logits.device)
    loss_options = {k: v for k, v in options.items() if k not in ("inplace", "reduction")}
    loss_options.pop("expected_gradient", None)
    summed = options.get("reduction") == "sum"
    upstream = upstream.sum() if summed else upstream
    losses = cross_entropy(logits * 1, labels, **options)
    (found,) = torch.autograd.grad(losses, [logits], upstream)
    (logits64,) = wide(logits)
    losses64 = right(logits64, labels, **loss_options)
    losses64 = losses64.sum() if summed else losses64
    (gradient,) = torch.autograd.grad(losses64, [logits64], upstream.double())
    vocab, rows = logits.shape[-1], labels.numel()
    largest = logits64.detach().abs().max().item() if logits.numel() else 0.0
    slope = 1 + 2 * loss_options.get("z_loss", 0.0) * largest
    allowed = tolerance(torch.float32, vocab)
    assert_close("losses", losses, losses64, allowed, scale=largest * (rows if summed else 1))
    # An early gradient is rounded twice where the expectation was wrong.
    roundings = 2 if summed else 1
    scale = slope * upstream.abs().max().item() if upstream.numel() else 0.0
    assert_close("dlogits", found, gradient, tolerance(logits.dtype, vocab, roundings), scale)
    assert losses.dtype == torch.float32 and found.dtype == logits.dtype


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocab", [*ODD_WIDTHS, 64, 300])
def test_odd_vocabularies_are_right(
    vocab: int, dtype: torch.dtype, way: str, device: torch.device
) -> None:
    """Catches masks that are off by one, and rows that start off a vector's boundary."""
    logits = random(3, vocab, dtype=dtype, device=device)
    hold(logits, some_labels(logits), **WAYS[way], **BOTH)


@pytest.mark.parametrize("mode", ["triton", "reference"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, BOTH], ids=str)
def test_the_plain_cross_entropy_comes_along(
    options: dict[str, Any],
    way: str,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
    device: torch.device,
) -> None:
    """Catches a reported loss that holds a term, and one that changes the loss or its gradient."""
    monkeypatch.setattr("kernels.dispatch.MODE", mode)
    logits = random(2, 3, 81, dtype=torch.float32, device=device)
    labels = some_labels(logits)
    arguments = {**WAYS[way], **options}
    losses = cross_entropy(logits * 1, labels, **arguments)
    again, nats = cross_entropy_with_nats(logits * 1, labels, **arguments)
    assert not nats.requires_grad
    torch.testing.assert_close(again, losses, rtol=1e-6, atol=1e-6)
    plain = right(logits.detach().double(), labels)
    plain = plain.sum() if losses.dim() == 0 else plain
    torch.testing.assert_close(nats.double(), plain, rtol=1e-5, atol=1e-5)
    upstream = torch.ones_like(losses)
    (found,) = torch.autograd.grad(again, [logits], upstream)
    (expected,) = torch.autograd.grad(losses, [logits], upstream)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("vocab", [4097, 10_000])
def test_the_tiles_of_wide_rows_are_right(
    vocab: int, way: str, monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    """Catches a table of tiles that the kernels cannot run with."""
    monkeypatch.setattr(row, "tile", tiles.tile)
    logits = random(2, vocab, dtype=torch.bfloat16, device=device)
    hold(logits, some_labels(logits, None), **WAYS[way])


@pytest.mark.parametrize("mode", ["triton", "reference"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}, {"z_loss": 1e-3}], ids=str)
def test_each_term_is_right(
    options: dict[str, Any],
    way: str,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
    device: torch.device,
) -> None:
    """Catches a term left out, or taken in unasked, on either path; and batches of rows."""
    monkeypatch.setattr("kernels.dispatch.MODE", mode)
    logits = random(2, 3, 80, device=device)
    hold(logits, some_labels(logits), **WAYS[way], **options)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("rows", "vocab"), [(1, 40), (33, 5)])
def test_many_rows_are_right(rows: int, vocab: int, way: str, device: torch.device) -> None:
    """Catches programs that share out the rows wrongly."""
    logits = random(rows, vocab, device=device)
    hold(logits, some_labels(logits, None), **WAYS[way])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gap", [0, 1, 16])
@pytest.mark.parametrize("way", WAYS)
def test_rows_with_gaps_are_right(
    way: str, gap: int, dtype: torch.dtype, device: torch.device
) -> None:
    """Catches a kernel that takes rows to lie one behind the other, or writes between them."""
    whole = random(2, 3, 80 + gap, dtype=dtype, device=device).detach()
    kept = whole[..., 80:].clone()
    logits = whole[..., :80].requires_grad_()
    labels = some_labels(logits.detach().transpose(0, 1)).t()
    view = logits * 1  # contiguous, to compare with
    ours = whole.detach().requires_grad_()
    moved = ours.mul(1)
    losses = cross_entropy(moved[..., :80], labels, **WAYS[way])
    (found,) = torch.autograd.grad(losses.sum(), [ours])
    assert torch.equal(moved.detach()[..., 80:], kept), "what lies between rows is not ours"
    (expected,) = torch.autograd.grad(right(view.double(), labels).sum(), [view])
    assert_close("dlogits", found[..., :80], expected, tolerance(dtype, 80), scale=1.0)
    assert (found[..., 80:] == 0).all()


def test_any_strides_are_right(device: torch.device) -> None:
    """Catches columns read as if they were neighbours, and labels read in memory's order."""
    logits = random(48, 5, 2, device=device).detach().transpose(0, 2).requires_grad_()
    labels = torch.randint(48, (5, 2), device=device).t()
    upstream = torch.randn(5, 2, device=device).t()
    hold(logits, labels, upstream)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("magnitude", [1e4, 1e18, 1e30])
def test_magnitudes_do_not_matter(magnitude: float, way: str, device: torch.device) -> None:
    """Catches an exponential that overflows, or a small loss lost between large logits."""
    logits = random(4, 70, device=device, scale=magnitude)
    hold(logits, some_labels(logits), label_smoothing=0.1, **WAYS[way])


def test_a_small_loss_beside_a_large_logit_is_exact(device: torch.device) -> None:
    """Catches lse computed as one number, of which 1e4 leaves no digits for the loss."""
    logits = torch.full((1, 64), 1e4, device=device)
    loss = cross_entropy(logits, torch.zeros(1, dtype=torch.int64, device=device))
    assert abs(loss.item() - torch.tensor(64.0).log().item()) < 1e-6


@pytest.mark.parametrize("way", WAYS)
def test_minus_infinity_has_no_probability(way: str, device: torch.device) -> None:
    """Catches NaN from -inf minus -inf, where whole blocks are masked out or a label is."""
    logits = random(3, 200, device=device).detach()
    logits[0, :130] = -torch.inf
    logits[1, 5] = -torch.inf
    logits[2, 1:] = -torch.inf
    labels = torch.tensor([150, 5, 0], device=device)
    logits.requires_grad_()
    losses = cross_entropy(logits * 1, labels, **WAYS[way])
    (found,) = torch.autograd.grad(losses.sum(), [logits])
    (logits64,) = wide(logits)
    losses64 = right(logits64, labels)
    (gradient,) = torch.autograd.grad(losses64.sum(), [logits64])
    if "reduction" not in WAYS[way]:
        assert_close("losses", losses, losses64, tolerance(torch.float32, 200), scale=10.0)
    assert losses.sum() == torch.inf and (found[0, :130] == 0).all()
    assert_close("dlogits", found, gradient, tolerance(torch.float32, 200), scale=1.0)


def test_nan_and_infinity_stay_in_their_row(device: torch.device) -> None:
    """Catches a bad value that is hidden, or that spreads to other rows."""
    logits = random(4, 90, device=device).detach()
    logits[1, 3], logits[2, 80] = torch.nan, torch.inf
    logits.requires_grad_()
    losses = cross_entropy(logits * 1, torch.zeros(4, dtype=torch.int64, device=device))
    (found,) = torch.autograd.grad(losses.sum(), [logits])
    assert losses.isnan().tolist() == [False, True, True, False]
    assert found.isnan().any(-1).tolist() == [False, True, True, False]


@pytest.mark.parametrize("way", WAYS)
def test_ignored_tokens_have_no_loss_and_no_gradient(way: str, device: torch.device) -> None:
    """Catches an ignored token that is averaged in, or whose NaN gets through."""
    logits = random(4, 70, device=device).detach()
    logits[0, 0] = torch.nan
    logits.requires_grad_()
    labels = torch.tensor([2, 3, 2, 69], device=device)
    losses = cross_entropy(logits * 1, labels, ignore_index=2, **BOTH, **WAYS[way])
    (found,) = torch.autograd.grad(losses.sum(), [logits])
    assert (found[[0, 2]] == 0).all() and found[[1, 3]].isfinite().all()
    right64 = right(logits.double(), labels, ignore_index=2, **BOTH)
    assert_close("sum", losses.sum(), right64.sum(), 1e-5)
    nothing = torch.full_like(labels, IGNORE)
    assert cross_entropy(logits.detach(), nothing, reduction="sum") == 0.0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [(0, 16), (3, 0, 16)], ids=str)
def test_no_rows_give_no_losses(shape: tuple[int, ...], way: str, device: torch.device) -> None:
    """Catches an empty grid."""
    logits = random(*shape, device=device)
    losses = cross_entropy(logits * 1, some_labels(logits), **WAYS[way])
    (found,) = torch.autograd.grad(losses.sum(), [logits])
    assert found.shape == shape and losses.sum() == 0.0
    assert losses.shape == (() if "reduction" in WAYS[way] else shape[:-1])


def early(
    logits: Tensor, labels: Tensor, upstream: float, expected: float | None
) -> tuple[Tensor, Tensor]:
    """(the gradient, the logits as autograd's forward pass left them)."""
    hint = torch.tensor(expected, device=logits.device) if expected is not None else None
    moved = logits * 1
    loss = cross_entropy(moved, labels, reduction="sum", inplace=True, expected_gradient=hint)
    left = moved.detach().clone()
    if hint is not None:
        hint.fill_(torch.nan)  # the caller may use its memory again
    (found,) = torch.autograd.grad(loss, [logits], torch.tensor(upstream, device=logits.device))
    return found, left


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_right_expectation_makes_the_backward_pass_free(
    dtype: torch.dtype, device: torch.device
) -> None:
    """Catches a gradient that is touched again, or a hint that is taken for 1."""
    logits = random(5, 70, dtype=dtype, device=device)
    labels = some_labels(logits)
    for upstream, expected in ((1.0, None), (0.3, 0.3)):
        found, left = early(logits, labels, upstream, expected)
        assert torch.equal(found, left), "nothing was written"
        losses = cross_entropy(logits, labels)
        weights = torch.full_like(losses, upstream)
        (apart,) = torch.autograd.grad(losses, [logits], weights)
        assert torch.equal(found, apart), "the same kernel, for the same upstream gradient"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocab", [80, 33])
@pytest.mark.parametrize(("upstream", "expected"), [(3.0, None), (0.1, 4.0), (0.0, 2.0)])
def test_a_wrong_expectation_is_corrected(
    upstream: float, expected: float | None, vocab: int, dtype: torch.dtype, device: torch.device
) -> None:
    """Catches a gradient that is off by the factor between hope and truth, in any block."""
    logits = random(9, vocab, dtype=dtype, device=device)
    labels = some_labels(logits)
    with tiles.trying(
        "cross_entropy.rescale", {"ROWS": 2, "BLOCK": 32, "num_warps": 1, "PROGRAMS": 1}
    ):
        found, left = early(logits, labels, upstream, expected)
    assert not torch.equal(found, left), "negative control: a pass was needed"
    (logits64,) = wide(logits)
    (gradient,) = torch.autograd.grad(upstream * right(logits64, labels).sum(), [logits64])
    assert_close("dlogits", found, gradient, tolerance(dtype, vocab, 2), scale=upstream)


@pytest.mark.parametrize("way", ["in place", "early"])
def test_autograd_notices_that_logits_are_gone(way: str, device: torch.device) -> None:
    """Catches a silently wrong gradient of another operator that had saved the logits."""
    logits = random(3, 40, device=device)
    labels = some_labels(logits)
    moved = logits * 1
    squares = moved.square().sum()
    losses = cross_entropy(moved, labels, **WAYS[way])
    losses.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        squares.backward()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        losses.sum().backward()
    moved = logits * 1  # negative control: apart, both are fine
    losses = cross_entropy(moved, labels)
    (moved.square().sum() + losses.sum()).backward(retain_graph=True)
    losses.sum().backward()


def test_in_place_takes_no_memory_and_needs_no_gradient(device: torch.device) -> None:
    """Catches a second tensor of the logits' size, and logits lost where nothing is gained."""
    logits = random(3, 40, device=device)
    labels = some_labels(logits)
    moved = logits * 1
    (found,) = torch.autograd.grad(
        cross_entropy(moved, labels, reduction="sum", inplace=True), [moved]
    )
    assert found.data_ptr() == moved.data_ptr()
    before = logits.detach().clone()
    cross_entropy(logits.detach(), labels, reduction="sum", inplace=True)
    with torch.no_grad():
        cross_entropy(logits, labels, inplace=True)
    assert torch.equal(logits, before)


def test_unknown_labels_give_nan_on_a_gpu(device: torch.device) -> None:
    """Catches a read outside of the row, or an id that counts as probability 0."""
    logits = random(4, 40, device=device).detach()
    labels = torch.tensor([3, 40, -1, IGNORE], device=device)
    wrong = [False, True, True, False]
    losses, statistics = launch_forward(logits, labels, PLAIN)
    assert losses.isnan().tolist() == wrong and losses[3] == 0.0
    packed = launch_partial(logits, labels, PLAIN)
    combined, _ = launch_combine(packed[None], labels, PLAIN, 40)
    assert combined.isnan().tolist() == wrong
    assert reference_losses(logits, labels, PLAIN)[0].isnan().tolist() == wrong
    gradient = torch.empty_like(logits)
    launch_backward(torch.ones(4, device=device), logits, labels, statistics, gradient, PLAIN)
    assert gradient.isnan().all(-1).tolist() == wrong
    launch_forward(logits, labels, PLAIN, torch.ones((), device=device))
    assert logits.isnan().all(-1).tolist() == wrong


@pytest.mark.parametrize("ranks", [1, 3])
def test_slices_combine_to_the_whole(ranks: int, device: torch.device) -> None:
    """Catches slices whose maxima differ, one of them all -inf, put together wrongly."""
    logits = random(5, ranks * 35, device=device).detach()
    logits[1, :35] = -torch.inf
    logits[2, 35:] -= 80.0
    labels = torch.tensor([0, ranks * 35 - 1, 17, IGNORE, 34], device=device)
    terms = Terms("", IGNORE, 0.0, 1e-3)
    parts = [
        # Labels as this slice counts them; -1 is an id of another one.
        torch.where((labels // 35 == rank) | (labels == IGNORE), labels - 35 * rank, -1)
        for rank in range(ranks)
    ]
    parts = [torch.where(labels == IGNORE, IGNORE, part) for part in parts]
    slices = logits.chunk(ranks, dim=-1)
    packed = [launch_partial(*pair, terms) for pair in zip(slices, parts, strict=True)]
    losses, statistics = launch_combine(torch.stack(packed), labels, terms, ranks * 35)
    whole, same = launch_forward(logits, labels, terms)
    allowed = tolerance(torch.float32, ranks * 35)
    assert_close("losses", losses, whole, allowed)
    assert_close("statistics", statistics, same, allowed)


@pytest.mark.skipif(torch.cuda.is_available(), reason="two ranks over gloo, on the CPU")
def test_ranks_that_share_the_vocabulary_are_right() -> None:
    """Catches a slice's offset, sums that stay local, ranks that differ, a second collective."""
    cases = []
    for mode in ("triton", "reference"):
        for dtype, options in (
            (torch.float32, BOTH),
            (torch.bfloat16, {"inplace": True}),
            (torch.float32, {"inplace": True, "reduction": "sum", **BOTH}),
        ):
            logits = random(2, 3, 66, dtype=dtype, device=torch.device("cpu")).detach()
            logits[0, 1, :33] = -torch.inf
            labels = torch.tensor([[0, 40, 32], [33, IGNORE, 65]])
            if "label_smoothing" in options:
                logits[0, 1, :33] = -50.0
            upstream = torch.randn(()) if "reduction" in options else torch.randn(2, 3)
            cases.append((mode, logits, None, labels, upstream, options))
    first, second = on_ranks(2, compute, cases)
    for case, (collectives, *one), (_, *other) in zip(cases, first, second, strict=True):
        assert collectives == 1
        _, logits, _, labels, upstream, options = case
        (logits64,) = wide(logits.requires_grad_())
        losses64 = right(logits64, labels, **options)
        losses64 = losses64.sum() if "reduction" in options else losses64
        (gradient,) = torch.autograd.grad(losses64, [logits64], upstream.double())
        assert torch.equal(one[0], other[0]), "equal on all ranks, to the last bit"
        assert_close("losses", one[0], losses64, tolerance(torch.float32, 66), scale=50.0)
        found = torch.cat((one[1], other[1]), dim=-1)
        largest = 2 * upstream.abs().max().item()
        assert_close("dlogits", found, gradient, tolerance(logits.dtype, 66), scale=largest)


@pytest.mark.parametrize("options", [{}, BOTH], ids=str)
def test_reference_gradients_are_right(options: dict[str, float]) -> None:
    """Catches an error in the oracle itself, and one in the gradient that ranks compute."""
    logits = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([6, IGNORE, 0])
    assert torch.autograd.gradcheck(lambda x: reference(x, labels, **options), (logits,))
    terms = PLAIN._replace(**options)
    losses, statistics = reference_losses(logits.detach(), labels, terms)
    assert torch.allclose(losses, right(logits, labels, **options))
    upstream = torch.randn(3, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(right(logits, labels, **options), [logits], upstream)
    found = reference_gradient(upstream, logits.detach(), labels, statistics, terms)
    assert torch.allclose(found, gradient)


def test_operators_are_registered_whole(device: torch.device) -> None:
    """Catches a fake that promises another shape, dtype or stride than the kernel gives."""
    logits = random(3, 20, device=device)
    labels = some_labels(logits)
    numbers = (IGNORE, 0.1, 1e-3)
    torch.library.opcheck(operator.cross_entropy, (logits, labels, "", *numbers))
    logits = logits.detach()
    upstream, one = torch.randn(3, device=device), torch.tensor(2.0, device=device)
    statistics = torch.randn(2, 3, device=device)
    known = (upstream, logits, labels, statistics, "", *numbers)
    torch.library.opcheck(operator.cross_entropy_backward, known)
    torch.library.opcheck(operator.cross_entropy_backward_, known)
    torch.library.opcheck(operator.cross_entropy_, (logits, labels, one, *numbers))
    torch.library.opcheck(operator.rescale_, (logits, one, 2 * one))


@pytest.mark.parametrize("way", WAYS)
def test_compile_sees_through(way: str, device: torch.device) -> None:
    """Catches a graph break around the operator."""
    logits = random(4, 32, device=device)
    labels = some_labels(logits)

    def loss(logits: Tensor) -> Tensor:
        return cross_entropy(2 * logits, labels, **WAYS[way]).sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (found,) = torch.autograd.grad(compiled(logits), [logits])
    (same,) = torch.autograd.grad(loss(logits), [logits])
    assert torch.equal(found, same)


@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_bad_arguments_are_named(
    mode: str, monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    """Catches an argument that reaches a kernel and reads what isn't there."""
    monkeypatch.setattr("kernels.dispatch.MODE", mode)
    logits = torch.randn(3, 8, device=device)
    labels = torch.zeros(3, dtype=torch.int64, device=device)
    leaf = logits.clone().requires_grad_()
    one = torch.ones((), device=device)
    for match, arguments, options in (
        (r"^logits: dtype float64 .* use float32 or bfloat16$", (logits.double(), labels), {}),
        (r"^logits: shape \[3, 0\] has no vocabulary", (logits[:, :0], labels), {}),
        (r"^labels: dtype int32 is not supported; use int64$", (logits, labels.int()), {}),
        (r"^labels: shape \[2\] should be that of logits", (logits, labels[:2]), {}),
        (r"^labels: is on meta, but logits on", (logits, labels.to("meta")), {}),
        (r"^label_smoothing: 1.0 is not in \[0, 1\)$", (logits, labels), {"label_smoothing": 1.0}),
        (r"^z_loss: -1.0 is negative", (logits, labels), {"z_loss": -1.0}),
        (
            r"^reduction: 'mean' is unknown; use none or sum$",
            (logits, labels),
            {"reduction": "mean"},
        ),
        (
            r"^expected_gradient: dtype float64",
            (logits, labels),
            {"expected_gradient": one.double()},
        ),
        (
            r"^expected_gradient: shape \[1\]",
            (logits, labels),
            {"expected_gradient": one[None]},
        ),
        (r"^inplace: logits are a leaf", (leaf, labels), {"inplace": True}),
        (
            r"^logits: stride 3 in the last",
            (logits.t().contiguous().t(), labels),
            {"inplace": True},
        ),
        (r"^inplace: rows of the logits", (logits[:1].expand(3, 8), labels), {"inplace": True}),
    ):
        with pytest.raises(ValueError, match=match):
            cross_entropy(*arguments, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="labels are looked at on the CPU only")
@pytest.mark.parametrize("mode", ["triton", "reference"])
@pytest.mark.parametrize("label", [8, -1])
def test_unknown_labels_are_named_on_the_cpu(
    label: int, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches an id beyond the vocabulary, such as of another tokenizer."""
    monkeypatch.setattr("kernels.dispatch.MODE", mode)
    match = rf"^labels: \[{label}\] is neither an id of the vocabulary of 8 nor ignore_index"
    with pytest.raises(ValueError, match=match):
        cross_entropy(torch.randn(2, 8), torch.tensor([0, label]))
