"""Attention's masks, back ends, the choice among them, and what callers must not pass."""

from collections.abc import Callable, Iterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from kernels.attention import Choices, Visible, attention, attention_with_lse, available, backends
from kernels.attention.reference import reference
from tests.kernels.oracle import assert_close, tolerance

POSITIONS = torch.tensor([[0, 1, 2, 0, 1, 0, 1, 2, 3], [3, 4, 5, 6, 0, 0, 1, 2, 3]])


def drawn(visible: Visible, dtype: torch.dtype = torch.float32, **options: Any) -> list[Tensor]:
    """[query, key, value], with 4 heads on 2."""
    lengths = (visible.queries, 4), (visible.keys, 2), (visible.keys, 2)
    return [
        torch.randn(length, visible.batch, heads, 16, dtype=dtype, requires_grad=True, **options)
        for length, heads in lengths
    ]


def by_definition(
    positions: Tensor, queries: list[int], window: int | None = None
) -> list[list[list[bool]]]:
    """Which keys each query sees, token by token."""
    seen = []
    for row in positions.tolist():
        documents = [sum(place == 0 for place in row[: token + 1]) for token in range(len(row))]
        seen.append(
            [
                [
                    documents[key] == documents[query]
                    and key <= query
                    and (window is None or query - key < window)
                    for key in range(len(row))
                ]
                for query in queries
            ]
        )
    return seen


@pytest.mark.parametrize("window", [None, 1, 2, 100])
@pytest.mark.parametrize("queries", [None, [0, 1, 7, 8], [8]], ids=str)
def test_documents_see_themselves_alone(queries: list[int] | None, window: int | None) -> None:
    """Catches an interval that is off by one, or a window that crosses into another document."""
    chosen = None if queries is None else torch.tensor(queries)
    visible = Visible.documents(POSITIONS, chosen, window)
    right = by_definition(POSITIONS, list(range(9)) if queries is None else queries, window)
    assert visible.dense().tolist() == right
    # The same relation from the keys' side.
    query = torch.arange(visible.queries)
    turned = (visible.first[..., None] <= query) & (query <= visible.last[..., None])
    assert torch.equal(turned.transpose(1, 2), visible.dense())
    assert visible.kind == ("documents" if queries is None else "intervals")
    assert not visible.is_causal


@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (2, 5), (5, 2), (0, 3), (3, 0)])
def test_causal_ends_at_the_last_key(queries: int, keys: int) -> None:
    """Catches a triangle that hangs from the wrong corner."""
    visible = Visible.causal(2, queries, keys)
    right = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    assert torch.equal(visible.dense(), right.expand(2, -1, -1))
    assert visible.is_causal == (queries == keys)
    assert visible.may_see_nothing == (queries > keys)
    assert torch.equal(visible.sees_something(), right.any(dim=1).expand(2, -1))


def test_boundaries_and_positions_agree() -> None:
    """Catches padding beyond the last boundary that joins a document, and a lost boundary."""
    visible = Visible.from_cu_seqlens(torch.tensor([0, 3, 5]), 9)
    assert torch.equal(visible.dense(), Visible.documents(POSITIONS[:1]).dense())
    bounds, longest = Visible.documents(POSITIONS).cu_seqlens()
    assert bounds.tolist() == [0, 3, 5, 9, 13, 14, 18] and longest == 4
    assert bounds.dtype == torch.int32


def test_boundaries_are_made_from_what_the_host_knows() -> None:
    """Catches a wait for the device, and a row that goes on with a document and has no boundary."""
    going_on = POSITIONS.clone()
    going_on[1, :4] = torch.arange(5, 9)
    for positions in (POSITIONS, going_on):
        right = Visible.documents(positions).cu_seqlens()
        known = Visible.documents(torch.zeros_like(positions), on_host=positions)
        found = known.cu_seqlens()
        assert torch.equal(found[0], right[0]) and found[1] == right[1]


def test_bad_masks_are_named() -> None:
    """Catches intervals that would send a kernel beyond its keys."""
    with pytest.raises(ValueError, match=r"^position_ids: shape \[9\] should be integers"):
        Visible.documents(POSITIONS[0])
    with pytest.raises(ValueError, match=r"^queries: places 3\.\.9 are not in 0\.\.8$"):
        Visible.documents(POSITIONS, torch.tensor([3, 9]))
    with pytest.raises(ValueError, match=r"^queries: places must be in rising order$"):
        Visible.documents(POSITIONS, torch.tensor([3, 1]))
    with pytest.raises(ValueError, match=r"^queries: shape \[1, 2\] should be integers"):
        Visible.documents(POSITIONS, torch.tensor([[3, 1]]))
    with pytest.raises(ValueError, match=r"^window: 0 tokens; it must be positive"):
        Visible.causal(1, 3, window=0)
    with pytest.raises(ValueError, match=r"^queries: -1 is negative$"):
        Visible.causal(1, -1)
    with pytest.raises(ValueError, match=r"^cu_seqlens: shape \[0\] should be integers"):
        Visible.from_cu_seqlens(torch.empty(0, dtype=torch.int32), 3)


MASKS: dict[str, Callable[[], Visible]] = {
    "causal": lambda: Visible.causal(2, 9),
    "window": lambda: Visible.causal(2, 9, window=3),
    "full": lambda: Visible.full(2, 4, 9),
    "documents": lambda: Visible.documents(POSITIONS),
    "documents window": lambda: Visible.documents(POSITIONS, window=2),
    "share": lambda: Visible.documents(POSITIONS, torch.tensor([0, 1, 7, 8])),
    "more queries than keys": lambda: Visible.causal(2, 9, 4),
    "no keys": lambda: Visible.full(2, 3, 0),
}


@pytest.mark.parametrize("mask", MASKS)
def test_back_ends_agree(mask: str) -> None:
    """Catches a flag that means another mask, and NaN from a query that sees nothing."""
    visible = MASKS[mask]()
    tensors = drawn(visible)
    right = attention(*tensors, visible, backend="reference", scale=0.5)
    gradient = torch.randn_like(right)
    rights = torch.autograd.grad(right, tensors, gradient)
    for backend in ("sdpa", "triton"):
        output = attention(*tensors, visible, backend=backend, scale=0.5)
        found = torch.autograd.grad(output, tensors, gradient)
        assert_close(backend, output, right, tolerance(torch.float32, 25))
        for one, other in zip(found, rights, strict=True):
            assert_close(backend, one, other, tolerance(torch.float32, 25), scale=1.0)


def test_the_cpu_keeps_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a change of what models on the CPU have computed so far: SDPA with a mask."""
    monkeypatch.setattr("kernels.dispatch.MODE", "")
    visible = Visible.documents(POSITIONS)
    tensors = drawn(visible)
    query, key, value = (tensor.permute(1, 2, 0, 3) for tensor in tensors)
    mask = torch.where(visible.dense()[:, None], 0.0, -torch.inf)
    right = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, enable_gqa=True
    )
    assert torch.equal(attention(*tensors, visible), right.permute(2, 0, 1, 3).reshape(9, 2, 64))


@pytest.mark.parametrize(("mode", "chosen"), [("triton", "triton"), ("reference", "reference")])
def test_the_mode_decides_for_auto(mode: str, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a rule that differs from the other families', and one that overrules the caller."""
    called = []
    monkeypatch.setattr("kernels.dispatch.MODE", mode)
    whole = backends.run

    def run(backend: str, *arguments: Any) -> Tensor:
        called.append(backend)
        return whole(backend, *arguments)

    monkeypatch.setattr(import_module("kernels.attention"), "run", run)
    visible = Visible.causal(1, 3)
    attention(*drawn(visible), visible)
    attention(*drawn(visible), visible, backend="sdpa")
    assert called == [chosen, "sdpa"]


class Flash(SimpleNamespace):
    """A stand-in for the package flash_attn, by its documented meaning; notes its options."""

    def __init__(self) -> None:
        super().__init__(options=[])

    def flash_attn_func(self, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        """[batch, sequence, heads, head_size], the last query at the last key."""
        self.options.append(options)
        batch, queries, keys = *query.shape[:2], key.shape[1]
        left, right = options["window_size"]
        window = left + 1 if left >= 0 else None
        assert right == (-1 if window is None else 0)
        visible = Visible.full(batch, queries, keys)
        if options["causal"]:
            visible = Visible.causal(batch, queries, keys, window)
        tensors = (tensor.transpose(0, 1) for tensor in (query, key, value))
        return reference(*tensors, visible, options["softmax_scale"])[0].transpose(0, 1)

    def flash_attn_varlen_func(self, *arguments: Any, **options: Any) -> Tensor:
        """[tokens, heads, head_size], documents end to end."""
        *tensors, bounds, key_bounds, longest, key_longest = arguments
        sizes = bounds.diff().tolist()
        assert bounds is key_bounds and longest == key_longest == max(sizes)
        pieces = zip(*(tensor.split(sizes) for tensor in tensors), strict=True)
        found = [
            self.flash_attn_func(*(one[None] for one in piece), **options)[0] for piece in pieces
        ]
        return torch.cat(found)


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> Flash:
    """Installs the stand-in."""
    stand_in = Flash()
    monkeypatch.setattr(backends, "FLASH", stand_in)
    monkeypatch.setattr(backends, "_flash_runs_on", lambda device: True)
    return stand_in


@pytest.mark.parametrize("mask", ["causal", "window", "full", "documents", "documents window"])
def test_flash_gets_the_right_call(mask: str, flash: Flash) -> None:
    """Catches a window, boundary or layout that FlashAttention reads in another way."""
    visible = MASKS[mask]()
    tensors = drawn(visible, torch.bfloat16)
    output = attention(*tensors, visible, backend="flash", deterministic=True, scale=0.5)
    right = attention(*tensors, visible, backend="reference", scale=0.5)
    assert_close("output", output, right, tolerance(torch.bfloat16, 25))
    assert all(options["deterministic"] for options in flash.options)


def test_flash_says_why_not(flash: Flash, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a call that would fail inside FlashAttention, or give other values."""
    share, causal = MASKS["share"](), MASKS["causal"]()
    bf16 = {"dtype": torch.bfloat16}
    for visible, tensors, reason in (
        (share, drawn(share, **bf16), "it knows whole sequences only"),
        (causal, drawn(causal), "it takes bfloat16, not float32"),
        (causal, [t[..., :12] for t in drawn(causal, **bf16)], "in steps of 8, not 12"),
    ):
        with pytest.raises(ValueError, match=f"^backend: flash cannot run this: .*{reason}"):
            attention(*tensors, visible, backend="flash")
        assert "flash" not in available(*tensors[:2], visible)
    tensors = drawn(causal, **bf16)
    assert available(*tensors[:2], causal) == ["flash", "triton", "sdpa", "reference"]
    monkeypatch.setattr(backends, "_flash_runs_on", lambda device: False)
    with pytest.raises(ValueError, match=r"it needs a GPU of compute capability 8\.0"):
        attention(*tensors, causal, backend="flash")
    monkeypatch.setattr(backends, "FLASH", None)
    with pytest.raises(ValueError, match="the package flash-attn is not installed; use auto"):
        attention(*tensors, causal, backend="flash")


class Stopwatch:
    """A timer that gives these milliseconds one after the other; errors are raised."""

    def __init__(self, *times: float | Exception) -> None:
        self.times: Iterator[float | Exception] = iter(times)
        self.calls = 0

    def __call__(self, call: Callable[[], object]) -> float:
        self.calls += 1
        call()
        time = next(self.times)
        if isinstance(time, Exception):
            raise time
        return time


def test_auto_takes_the_fastest_and_remembers(caplog: pytest.LogCaptureFixture) -> None:
    """Catches a choice that is made again and again, or for other shapes than its own."""
    timer = Stopwatch(2.0, 1.0, 1.0, 2.0)
    choices = Choices(timer)
    with caplog.at_level("INFO"):
        for length in (3, 4):  # both are measured as 4
            visible = Visible.causal(1, length)
            assert choices.choose(*drawn(visible)[:2], visible, False) == "sdpa"
    assert timer.calls == 2 and len(caplog.records) == 1
    assert caplog.records[0].getMessage() == (
        "attention runs sdpa for 4/2 heads of 16 float32, 4 x 4 causal "
        "(forward + backward: triton 2.000 ms, sdpa 1.000 ms)"
    )
    visible = Visible.documents(POSITIONS[:, :4])
    assert choices.choose(*drawn(visible)[:2], visible, False) == "triton"
    assert choices.exported() == {
        "4/2 heads of 16 float32, 4 x 4 causal": "sdpa",
        "4/2 heads of 16 float32, 4 x 4 documents": "triton",
    }
    resumed = Choices(Stopwatch())
    resumed.restore(choices.exported())
    assert resumed.choose(*drawn(visible)[:2], visible, False) == "triton"
    with pytest.raises(ValueError, match=r"^choices: 'xformers' for some shapes is unknown; use"):
        resumed.restore({"some shapes": "xformers"})


@pytest.mark.parametrize("mask", ["full", "share", "window"])
def test_every_pattern_can_be_measured(mask: str) -> None:
    """Catches a class of shapes whose stand-in cannot be made or run."""
    visible = MASKS[mask]()
    choices = Choices(Stopwatch(2.0, 1.0))
    assert choices.choose(*drawn(visible)[:2], visible, False) == "sdpa"


def test_a_back_end_that_fails_is_left_out() -> None:
    """Catches training that stops since a back end it need not use ran out of memory."""
    visible = Visible.causal(1, 2)
    tensors = drawn(visible)[:2]
    choices = Choices(Stopwatch(torch.OutOfMemoryError("out of memory"), 5.0))
    assert choices.choose(*tensors, visible, False) == "sdpa"
    failing = Choices(Stopwatch(RuntimeError("no kernel"), RuntimeError("no kernel")))
    with pytest.raises(RuntimeError, match="none of triton, sdpa could run 4/2 heads of 16"):
        failing.choose(*tensors, visible, False)


def test_what_is_restored_but_missing_is_measured_again() -> None:
    """Catches a run that resumes on a machine without FlashAttention and stops."""
    visible = Visible.causal(1, 2)
    choices = Choices(Stopwatch(2.0, 1.0))
    choices.restore({"4/2 heads of 16 bfloat16, 2 x 2 causal": "flash"})
    assert choices.choose(*drawn(visible, torch.bfloat16)[:2], visible, False) == "sdpa"


def test_nothing_is_measured_without_need() -> None:
    """Catches a measurement while a graph is traced, or for a model that only generates."""
    choices = Choices(Stopwatch())
    visible, share = Visible.causal(1, 4), MASKS["share"]()
    with FakeTensorMode():
        assert choices.choose(*drawn(visible)[:2], visible, False) == "triton"
        odd = [tensor[..., :12] for tensor in drawn(visible)[:2]]
        assert choices.choose(*odd, visible, False) == "sdpa"
    with torch.no_grad():
        assert choices.choose(*drawn(visible)[:2], visible, False) == "sdpa"
        assert choices.choose(*drawn(share)[:2], share, False) == "triton"
    last = Visible.documents(POSITIONS, torch.tensor([8]))
    assert choices.choose(*drawn(last)[:2], last, False) == "sdpa"
    empty = Visible.full(1, 3, 0)
    assert choices.choose(*drawn(empty)[:2], empty, False) == "triton"
    assert choices.exported() == {}


def test_what_would_not_fit_or_wait_is_not_chosen(
    flash: Flash, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a mask that fills the memory, a traced call that waits, and a choice among none."""
    visible = Visible.documents(POSITIONS)
    tensors = drawn(visible, torch.bfloat16)[:2]
    choices = Choices(Stopwatch(2.0, 3.0))
    # A mask of 2 x 9 x 9 in two bytes.
    module = import_module("kernels.attention.choices")
    monkeypatch.setattr(module, "MASK_BYTES", 2 * 9 * 9 * 2 - 1)
    assert choices.choose(*tensors, visible, False) == "flash", "of flash and triton"
    with FakeTensorMode():
        assert choices.choose(*drawn(visible, torch.bfloat16)[:2], visible, False) == "triton"
    odd = [tensor[..., :12] for tensor in tensors]
    assert choices.choose(*odd, visible, False) == "reference"


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("operator", [attention, attention_with_lse])
def test_bad_arguments_are_named(operator: Callable[..., Any], backend: str) -> None:
    """Catches an argument that reaches a kernel and reads what isn't there."""
    visible = Visible.causal(2, 5)
    query, key, value = drawn(visible)

    def refuses(message: str, *tensors: Tensor, seen: Visible = visible, **options: Any) -> None:
        with pytest.raises(ValueError, match=f"^{message}") as caught:
            operator(*tensors, seen, **{"backend": backend} | options)
        assert "\n" not in str(caught.value)

    half = torch.float16
    refuses("query: dtype float16 .* use float32 or bfloat16$", query.to(half), key, value)
    refuses("key: dtype bfloat16 .* use float32$", query, key.bfloat16(), value)
    refuses("value: is on meta, but query on cpu; move one$", query, key, value.to("meta"))
    refuses(r"key: shape \[5, 2, 32\] should be \[sequence", query, key.flatten(2), value)
    refuses(r"key: shape .* should be \[keys, query's batch", query, key[:, :1], value)
    refuses(r"key: shape .* query's head_size\] = ", query, key[..., :8], value)
    refuses("value: shape .* should be key's shape", query, key, value[:4])
    refuses("key: 2 heads should divide the query's 3$", query[:, :, :3], key, value)
    refuses(
        "value: stride 2 in the last dim.* contiguous",
        query[..., :8],
        key[..., :8],
        value[..., ::2],
    )
    refuses(r"visible: is for .* = \[2, 4, 4\], but", query, key, value, seen=Visible.causal(2, 4))
    refuses(
        "visible: is on meta, but query on cpu; move one$",
        *(query, key, value),
        seen=Visible.causal(2, 5, device="meta"),
    )
    refuses("scale: -1.0 should be a positive number$", query, key, value, scale=-1.0)
    refuses("backend: 'xformers' is unknown; use auto,", query, key, value, backend="xformers")
    odd = [tensor[..., :12] for tensor in (query, key, value)]
    refuses("backend: triton cannot run this: .* in steps of 8, not 12;", *odd, backend="triton")
    wide = [torch.randn(5, 2, 2, 264)] * 3
    refuses("backend: triton cannot run this: .* 8 to 256 .* not 264;", *wide, backend="triton")


def test_any_mask_is_what_its_intervals_are() -> None:
    """Catches a dense mask that is read as its bounds, or given to a kernel of intervals."""
    intervals = Visible.causal(2, 11, 20)
    any_mask = Visible.of_dense(intervals.dense())
    query, key = torch.randn(11, 2, 4, 16), torch.randn(20, 2, 2, 16)
    assert "interval" in backends.why_not("triton", query, key, any_mask)
    assert backends.why_not("flash", query, key, any_mask)
    torch.testing.assert_close(
        attention(query, key, key, any_mask), attention(query, key, key, intervals)
    )
    for one, other in zip(
        attention_with_lse(query, key, key, any_mask),
        attention_with_lse(query, key, key, intervals, backend="reference"),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    with pytest.raises(ValueError, match="dense: shape"):
        Visible.of_dense(torch.ones(2, 11, 20))
