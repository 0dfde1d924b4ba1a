"""Rotary position embedding of queries and keys."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from kernels import dispatch
from kernels.rope import _rope, _rope_in_place, _together, reference, rope
from kernels.rope_angles import rope_frequencies, rope_table
from tests.kernels.oracle import DTYPES, assert_close, tolerance, wide


def packed(
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    sequence: int = 3,
    batch: int = 2,
    groups: int = 2,
    repeat: int = 3,
    head_size: int = 8,
) -> tuple[Tensor, Tensor, Tensor]:
    """A packed projection, and its split's query [s, b, groups, repeat, size] and key."""
    width = (repeat + 2) * head_size
    projection = torch.randn(sequence, batch, groups, width, device=device).to(dtype)
    query, key, _ = projection.split((repeat * head_size, head_size, head_size), dim=3)
    return projection, query.unflatten(-1, (repeat, head_size)), key


def table(device: torch.device, query: Tensor, reach: int = 1_000_000) -> tuple[Tensor, Tensor]:
    positions = torch.randint(0, reach, (query.shape[1], query.shape[0]), device=device)
    return rope_table(positions, rope_frequencies(query.shape[-1], 500_000.0).to(device))


def fresh(x: Tensor) -> Tensor:
    """A tracked leaf with the same values, contiguous."""
    return x.detach().clone(memory_format=torch.contiguous_format).requires_grad_()


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("sequence", "batch", "groups", "repeat", "head_size"),
    [(1, 1, 1, 1, 2), (3, 2, 2, 3, 6), (5, 1, 9, 2, 16), (17, 3, 1, 4, 10)],
)
def test_every_shape_turns_as_in_fp64_forward_and_backward(
    device: torch.device,
    dtype: torch.dtype,
    interleaved: bool,
    sequence: int,
    batch: int,
    groups: int,
    repeat: int,
    head_size: int,
) -> None:
    """Catches wrong strides of a packed projection's slices, and heads or channels left out."""
    shape = (sequence, batch, groups, repeat, head_size)
    _, query, key = packed(device, dtype, *shape)
    query, key = query.detach().requires_grad_(), key.detach().requires_grad_()
    cos, sin = table(device, query)
    exact_query, exact_key = wide(query, key)
    right = reference(exact_query, exact_key, cos, sin, interleaved)
    found = rope(query, key, cos, sin, interleaved=interleaved)
    # A pair's sum of two products in fp32, then one rounding.
    allowed = tolerance(dtype, terms=2)
    upstream = [torch.randn_like(x) for x in found]
    torch.autograd.backward(right, [x.double() for x in upstream])
    torch.autograd.backward(found, upstream)
    assert found[0].shape == (sequence, batch, groups * repeat, head_size)
    for name, x, exact in (
        ("query", found[0], right[0]),
        ("key", found[1], right[1]),
        ("dquery", query.grad, exact_query.grad),
        ("dkey", key.grad, exact_key.grad),
    ):
        assert x is not None and exact is not None
        assert_close(name, x, exact, allowed)


@pytest.mark.parametrize("head_size", [128, 254])
def test_heads_of_production_size_turn_right(device: torch.device, head_size: int) -> None:
    """Catches a block that is wrong only at full width, or where half a head is no power of 2."""
    _, query, key = packed(device, torch.bfloat16, 9, 1, 2, 2, head_size)
    cos, sin = table(device, query)
    found = rope(query, key, cos, sin)
    right = reference(*wide(query, key), cos, sin)
    for x, exact in zip(found, right, strict=True):
        assert_close("turned", x, exact, tolerance(torch.bfloat16, terms=2))


def test_transposed_and_reversed_layouts_are_read_where_they_lie(device: torch.device) -> None:
    """Catches a kernel that takes any one stride for granted."""
    query = torch.randn(2, 5, 3, 8, device=device).transpose(0, 2)  # [3, 5, 2, 8]
    key = torch.randn(5, 3, 4, 16, device=device).transpose(0, 1)[..., 4:12]
    cos, sin = table(device, query)
    cos, sin = cos.t().contiguous().t() if cos.dim() == 2 else cos.transpose(1, 2), sin
    cos = cos.contiguous().transpose(1, 2)
    found = rope(query, key, cos, sin)
    right = reference(*wide(query, key), cos, sin)
    for x, exact in zip(found, right, strict=True):
        assert_close("turned", x, exact, tolerance(torch.float32, terms=2))


def test_gradients_of_any_layout_are_turned_back(device: torch.device) -> None:
    """Catches an expanded gradient, as sum() sends, that is read as if it were dense."""
    _, query, key = packed(device)
    query, key = query.detach().requires_grad_(), key.detach().requires_grad_()
    cos, sin = table(device, query)
    exact = wide(query, key)
    for values, function in (((query, key), rope), (exact, reference)):
        turned = function(*values, cos, sin)
        (turned[0].sum() + 2 * turned[1].sum()).backward()
    for x, right in zip((query, key), exact, strict=True):
        assert x.grad is not None and right.grad is not None
        assert_close("gradient", x.grad, right.grad, tolerance(torch.float32, terms=2))


def test_turning_back_gives_what_was_turned(device: torch.device) -> None:
    """Catches an inverse that is not the transpose, which the backward pass relies on."""
    _, query, key = packed(device)
    cos, sin = table(device, query)
    turned = _rope(query, key, cos, sin, False, False)
    back = _rope(*turned, cos, sin, False, True)
    for x, original in zip(back, (query, key), strict=True):
        assert_close("turned back", x, original, 2 * tolerance(torch.float32, terms=2))


def test_scores_depend_on_distance_alone(device: torch.device) -> None:
    """Catches queries and keys that turn by different angles or in different directions."""
    frequencies = rope_frequencies(8, 10_000.0).to(device)
    query, key = torch.randn(2, 1, 1, 1, 8, device=device).unbind()
    scores = []
    for shift in (0, 1_000_000):
        places = torch.tensor([[7 + shift, 3 + shift]], device=device)
        both = (query.expand(2, -1, -1, -1), key.expand(2, -1, -1, -1))
        turned = rope(*both, *rope_table(places, frequencies))
        scores.append((turned[0][0] * turned[1][1]).sum())
    # Eight products of numbers with errors of 2 units each.
    size = (query.norm() * key.norm()).item()
    assert_close("score", scores[1], scores[0], 4 * tolerance(torch.float32, terms=8), scale=size)


def test_large_and_special_numbers_stay_in_their_pair(device: torch.device) -> None:
    """Catches overflow short of fp32's range, and a NaN that reaches another channel or head."""
    query = torch.full((1, 1, 2, 4), 1e30, device=device)
    key = torch.ones(1, 1, 2, 4, device=device)
    key[0, 0, 1, 0] = float("nan")
    key[0, 0, 0, 1] = float("-inf")
    cos, sin = table(device, query)
    turned_query, turned_key = rope(query, key, cos, sin)
    assert turned_query.isfinite().all()
    assert turned_key[0, 0, 1].isnan().tolist() == [True, False, True, False]
    assert turned_key[0, 0, 0].isfinite().tolist() == [True, False, True, False]


@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (2, 0, 3, 4), (2, 1, 0, 4)])
def test_nothing_to_turn_gives_nothing(device: torch.device, shape: tuple[int, ...]) -> None:
    """Catches a launch on an empty grid."""
    empty = torch.empty(shape, device=device)
    cos, sin = table(device, empty)
    turned_query, turned_key = rope(empty, empty, cos, sin)
    assert turned_query.shape == turned_key.shape == shape


@pytest.mark.parametrize("triton", [True, False])
def test_in_place_overwrites_slices_and_nothing_beside_them(
    device: torch.device, triton: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a rotation in place that reads what it has written, or touches the values."""
    monkeypatch.setattr("kernels.dispatch.MODE", "triton" if triton else "reference")
    projection, query, key = packed(device, torch.bfloat16)
    before = projection.clone()
    cos, sin = table(device, query)
    right = rope(query, key, cos, sin)
    turned_query, turned_key = rope(query, key, cos, sin, inplace=True)
    assert turned_query.data_ptr() == projection.data_ptr()
    assert torch.equal(turned_query.flatten(2, 3), right[0])
    assert torch.equal(turned_key, right[1]) and torch.equal(key, right[1])
    assert torch.equal(projection[..., -8:], before[..., -8:])
    assert not torch.equal(projection, before)


@pytest.mark.parametrize("triton", [True, False])
def test_in_place_has_the_gradient_of_out_of_place(
    device: torch.device, triton: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches an overwritten tensor that autograd still takes for the one before."""
    monkeypatch.setattr("kernels.dispatch.MODE", "triton" if triton else "reference")
    _, query, key = packed(device)
    cos, sin = table(device, query)
    gradients = []
    for inplace in (False, True):
        leaves = fresh(query), fresh(key)
        products = [leaf * 3.0 for leaf in leaves]
        turned = rope(products[0], products[1], cos, sin, inplace=inplace)
        assert (turned[1] is products[1]) == inplace
        (turned[0].square().sum() + turned[1].cos().sum()).backward()
        gradients.append([leaf.grad for leaf in leaves])
    for found, right in zip(*gradients, strict=True):
        assert found is not None and right is not None
        assert_close("gradient", found, right, 4 * tolerance(torch.float32, terms=2))


def test_in_place_is_refused_where_autograd_would_be_wrong(device: torch.device) -> None:
    """Catches two views of one projection overwritten behind autograd's back."""
    projection, _, _ = packed(device)
    projection.requires_grad_()
    query, key, _ = (projection * 1.0).split((24, 8, 8), dim=3)
    query = query.unflatten(-1, (3, 8))
    cos, sin = table(device, query)
    with pytest.raises(ValueError, match="query: is a leaf or a view that autograd tracks"):
        rope(query, key, cos, sin, inplace=True)
    with pytest.raises(ValueError, match="key: is a leaf or a view that autograd tracks"):
        rope(query.clone(), fresh(key), cos, sin, inplace=True)
    with pytest.raises(ValueError, match="key: overlaps itself"):
        rope(query.detach(), key.detach()[:, :, :1].expand(-1, -1, 2, -1), cos, sin, inplace=True)


def test_reference_gradient_is_its_derivative() -> None:
    """Catches an oracle that is itself wrong."""
    query = torch.randn(2, 1, 2, 4, dtype=torch.float64, requires_grad=True)
    key = torch.randn(2, 1, 1, 4, dtype=torch.float64, requires_grad=True)
    cos, sin = table(torch.device("cpu"), query)
    for interleaved in (False, True):
        assert torch.autograd.gradcheck(
            lambda q, k, i=interleaved: reference(q, k, cos, sin, i), (query, key)
        )


def test_operators_keep_their_contracts(device: torch.device) -> None:
    """Catches a fake, a schema or an autograd formula that says other than the kernel does."""
    _, query, key = packed(device)
    cos, sin = table(device, query)
    tracked = query.detach().requires_grad_(), key.detach().requires_grad_()
    torch.library.opcheck(_rope, (*tracked, cos, sin, False, False))
    torch.library.opcheck(_rope, (query, key, cos, sin, True, True))
    torch.library.opcheck(_rope_in_place, (query.clone(), key.clone(), cos, sin, False))


def test_shapes_are_seen_through_without_running(device: torch.device) -> None:
    """Catches an operator that torch.compile cannot trace, or that breaks its graph."""
    _, query, key = packed(device)
    cos, sin = table(device, query)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = [mode.from_tensor(x) for x in (query, key, cos, sin)]
        turned = rope(*fake)
        assert [x.shape for x in turned] == [(3, 2, 6, 8), (3, 2, 2, 8)]
    for inplace in (False, True):
        leaves = fresh(query), fresh(key)

        def turn(query: Tensor, key: Tensor, inplace: bool = inplace) -> Tensor:
            turned = rope(query * 1.0, key * 1.0, cos, sin, inplace=inplace)
            return turned[0].square().sum() + turned[1].sum()

        torch.compile(turn, fullgraph=True, backend="aot_eager")(*leaves).backward()
        compiled = [leaf.grad for leaf in leaves]
        leaves = fresh(query), fresh(key)
        turn(*leaves).backward()
        for found, leaf in zip(compiled, leaves, strict=True):
            assert found is not None and leaf.grad is not None
            assert torch.equal(found, leaf.grad)


@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_bad_arguments_are_named(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a mistake that would read beyond a tensor, on either path."""
    monkeypatch.setattr("kernels.dispatch.MODE", mode)
    query, key = torch.randn(3, 2, 4, 8), torch.randn(3, 2, 2, 8)
    cos, sin = table(torch.device("cpu"), query)
    for message, arguments in (
        ("query: dtype float16", (query.half(), key, cos, sin)),
        ("key: dtype bfloat16", (query, key.bfloat16(), cos, sin)),
        ("query: shape", (query[0], key, cos, sin)),
        ("query: head_size 7 is not even", (query[..., :7], key[..., :7], cos, sin)),
        ("key: shape", (query, key[:2], cos, sin)),
        ("cos: dtype float64", (query, key, cos.double(), sin)),
        ("sin: shape", (query, key, cos, sin[:, :2])),
        ("key: stride 2", (query, torch.randn(3, 2, 2, 16)[..., ::2], cos, sin)),
        ("query: stride 2", (torch.randn(3, 2, 2, 16)[..., ::2], key, cos, sin)),
    ):
        with pytest.raises(ValueError, match=message):
            rope(*arguments)


@pytest.fixture
def by_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """`rope` in PyTorch, as on a CPU, where the kernels' own tests run Triton."""
    monkeypatch.setattr(dispatch, "MODE", "reference")


@pytest.mark.usefixtures("by_reference")
def test_what_needs_no_gradient_is_turned_alike() -> None:
    """Catches a half that is overwritten before it is read, and sums that are rounded otherwise."""
    query, key = torch.randn(7, 2, 3, 2, 16), torch.randn(7, 2, 3, 16)
    cos, sin = torch.randn(2, 7, 8), torch.randn(2, 7, 8)
    expected = rope(query, key, cos, sin)
    with torch.no_grad():
        found = rope(query, key, cos, sin)
        written = rope(query.clone(), key.clone(), cos, sin, inplace=True)
    for one, other, third in zip(found, expected, written, strict=True):
        assert one.is_contiguous()
        # What is recomputed with gradients was computed without.
        assert torch.equal(one, other)
        assert torch.equal(third.reshape(one.shape), other)


# One query head or one group: what is sliced of it could pass for flat without a copy.
@pytest.mark.parametrize(("groups", "repeat"), [(2, 3), (2, 1), (1, 3), (1, 1)])
@pytest.mark.parametrize("between", [0, 1])
@pytest.mark.usefixtures("by_reference")
def test_a_token_alone_is_turned_in_place_of_its_projection(
    groups: int, repeat: int, between: int
) -> None:
    """Catches keys that are taken for queries, what stands between them turned for a key, and
    queries that are left between the keys they were turned with.
    """
    # Per group query heads, heads of something else, a key head and a value head.
    projected = torch.randn(1, 2, groups, repeat + between + 2, 16)
    query, key = projected[..., :repeat, :], projected[..., repeat + between, :]
    cos, sin = torch.randn(2, 2, 1, 8)
    before = projected.clone()
    with torch.no_grad():
        assert (_together(query, key) is None) == bool(between)
        found = rope(query, key, cos, sin)
    expected = rope(query, key, cos, sin)
    for one, other in zip(found, expected, strict=True):
        assert one.is_contiguous() and torch.equal(one, other)
    assert torch.equal(projected, before)


@pytest.mark.usefixtures("by_reference")
def test_a_key_that_only_begins_behind_its_queries_is_turned_apart() -> None:
    """Catches a key taken to stand behind every query's head, or in another tensor's memory."""
    projected, cos, sin = torch.randn(1, 4, 2, 4, 16), *torch.randn(2, 2, 1, 8)
    query, key = projected[:, ::2, :, :3], projected[:, :2, :, 3]
    memory = bytearray(torch.randn(2 * 4 * 16).numpy().tobytes())
    one = torch.frombuffer(memory, dtype=torch.float32, count=2 * 3 * 16).view(1, 2, 1, 3, 16)
    other = torch.frombuffer(memory, dtype=torch.float32, offset=3 * 64)[: 2 * 48]
    apart = other.as_strided((1, 2, 1, 16), (96, 48, 48, 1))
    for queries, keys in ((query, key), (one, apart)):
        with torch.no_grad():
            assert keys.data_ptr() == queries[..., -1, :].data_ptr() + 64
            found = rope(queries, keys, cos, sin)
        expected = rope(queries.clone(), keys.clone(), cos, sin)
        for mine, theirs in zip(found, expected, strict=True):
            assert torch.equal(mine, theirs)
