"""AdamW over many tensors in one launch."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from kernels.adamw import Scalars, _adamw_op, adamw_step, reference
from kernels.tensor_list import CHUNK, Chunks, TensorPlans
from tests.kernels.oracle import assert_close, tolerance

SIZES = [(1,), (0,), (3, 5), (), (CHUNK,), (CHUNK + 1,)]
OPTIONS: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
UNIT = torch.finfo(torch.float32).eps / 2

Lists = dict[str, list[Tensor]]


def drawn(
    device: torch.device,
    parameter: torch.dtype = torch.float32,
    gradient: torch.dtype = torch.float32,
    sizes: list[tuple[int, ...]] = SIZES,
) -> Lists:
    """One group's lists; masters where parameters are bf16."""
    weights = [torch.randn(size, device=device) for size in sizes]
    lists = {
        "parameters": [w.to(parameter) for w in weights],
        "gradients": [torch.randn_like(w).to(gradient) for w in weights],
        "exp_avg": [torch.randn_like(w) * 0.1 for w in weights],
        "exp_avg_sq": [torch.rand_like(w) for w in weights],
    }
    return lists if parameter == torch.float32 else lists | {"masters": weights}


def copied(lists: Lists, dtype: torch.dtype | None = None) -> Lists:
    return {
        name: [x.to(dtype or x.dtype, copy=True) for x in tensors]
        for name, tensors in lists.items()
    }


def exact(lists: Lists, step: int, factor: float = 1.0) -> Lists:
    """The lists after a step in fp64."""
    wide = copied(lists, torch.float64)
    wide["gradients"] = [g * factor for g in wide["gradients"]]
    masters = wide.get("masters")
    scalars = Scalars.of(**OPTIONS, step=step)
    names = ("parameters", "gradients", "exp_avg", "exp_avg_sq")
    reference(*(wide[name] for name in names), masters, scalars, None, None)
    return wide


def assert_right(found: Lists, right: Lists) -> None:
    """All that is written, within ten units in fp32's last place: one for each operation.

    A unit of the operands, which are of order one: the result may be a small difference.
    """
    allowed = 10 * UNIT
    for name in found.keys() - {"gradients"}:
        for index, (x, y) in enumerate(zip(found[name], right[name], strict=True)):
            rounding = tolerance(x.dtype) if x.dtype == torch.bfloat16 else 0.0
            assert_close(f"{name}[{index}]", x, y, allowed + rounding, scale=1.0)


@pytest.mark.parametrize("gradient", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("parameter", [torch.float32, torch.bfloat16])
def test_every_tensor_is_updated_as_in_fp64(
    device: torch.device, parameter: torch.dtype, gradient: torch.dtype
) -> None:
    """Catches elements left out or written twice, lists mixed up, and a stale bf16 copy."""
    lists = drawn(device, parameter, gradient)
    right = exact(lists, step=3)
    adamw_step(**lists, **OPTIONS, step=3)
    assert_right(lists, right)
    for copy, master in zip(lists["parameters"], lists.get("masters", ()), strict=False):
        assert torch.equal(copy, master.bfloat16())


def test_steps_from_nothing_are_those_of_torch(device: torch.device) -> None:
    """Catches a bias correction or a decay that is not torch.optim.AdamW's."""
    lists = drawn(device, sizes=[(7,), (CHUNK + 3,)])
    for moment in lists["exp_avg"] + lists["exp_avg_sq"]:
        moment.zero_()
    weights = [torch.nn.Parameter(p.clone()) for p in lists["parameters"]]
    adamw = torch.optim.AdamW(weights, **OPTIONS)
    for step in range(1, 4):
        lists["gradients"] = [torch.randn_like(p) for p in lists["parameters"]]
        for weight, gradient in zip(weights, lists["gradients"], strict=True):
            weight.grad = gradient.clone()
        adamw.step()
        adamw_step(**lists, **OPTIONS, step=step)
    for index, weight in enumerate(weights):
        state = adamw.state[weight]
        for name, right in (
            ("parameters", weight),
            ("exp_avg", state["exp_avg"]),
            ("exp_avg_sq", state["exp_avg_sq"]),
        ):
            # Three steps of two implementations, each with the roundings of one.
            assert_close(name, lists[name][index], right, 3 * 2 * 10 * UNIT, scale=1.0)


def test_reference_is_bitwise_that_of_torch() -> None:
    """Catches an oracle that is not the algorithm which runs were trained with so far."""
    lists = drawn(torch.device("cpu"))
    weights = [torch.nn.Parameter(p.clone()) for p in lists["parameters"]]
    adamw = torch.optim.AdamW(weights, **OPTIONS)
    for index, weight in enumerate(weights):
        weight.grad = lists["gradients"][index].clone()
        adamw.state[weight] = {
            "step": torch.tensor(4.0),
            "exp_avg": lists["exp_avg"][index].clone(),
            "exp_avg_sq": lists["exp_avg_sq"][index].clone(),
        }
    adamw.step()
    reference(*lists.values(), None, Scalars.of(**OPTIONS, step=5), None, None)
    for index, weight in enumerate(weights):
        assert torch.equal(weight.data, lists["parameters"][index])
        assert torch.equal(adamw.state[weight]["exp_avg_sq"], lists["exp_avg_sq"][index])


def test_views_into_flat_buffers_are_updated_and_nothing_beside_them(
    device: torch.device,
) -> None:
    """Catches wide loads at addresses that don't allow them, and writes over a neighbour."""
    whole = drawn(device, torch.bfloat16, sizes=[(CHUNK,), (5,), (CHUNK + 9,)])
    lists: Lists = {}
    flats = []
    for shift, (name, tensors) in enumerate(whole.items()):
        flat = torch.full((3 * CHUNK,), float("nan"), dtype=tensors[0].dtype, device=device)
        lists[name], start = [], shift
        for tensor in tensors:
            lists[name].append(flat[start : start + tensor.numel()].copy_(tensor))
            start += tensor.numel() + 3
        flats.append((flat, flat.isnan().sum()))
    right = exact(lists, step=2)
    adamw_step(**lists, **OPTIONS, step=2)
    assert_right(lists, right)
    for flat, beside in flats:
        assert flat.isnan().sum() == beside


def test_tensors_of_different_dtypes_go_together(device: torch.device) -> None:
    """Catches a launch that reads all tensors of a list with the first one's dtype."""
    lists = drawn(device, torch.bfloat16, sizes=[(5,), (70,), (3,), (9,)])
    lists["parameters"] = [x.float() if i % 2 else x for i, x in enumerate(lists["parameters"])]
    lists["gradients"][3] = lists["gradients"][3].bfloat16()
    right = exact(lists, step=1)
    adamw_step(**lists, **OPTIONS, step=1)
    assert_right(lists, right)


def test_dense_layouts_other_than_rows_are_updated(device: torch.device) -> None:
    """Catches elements paired by place in memory where a gradient's layout differs."""
    lists = {
        name: [x.abs() for x in (torch.randn(6, 5, device=device).t(),)]
        for name in ("parameters", "gradients", "exp_avg", "exp_avg_sq")
    }
    assert lists["parameters"][0].stride() == (1, 5)
    lists["gradients"] = [lists["gradients"][0].contiguous()]
    right = exact(lists, step=1)
    adamw_step(**lists, **OPTIONS, step=1)
    assert_right(lists, right)


@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_clipping_multiplies_the_gradient_and_leaves_it_as_it_was(
    device: torch.device, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a coefficient that is ignored, or written into gradients."""
    monkeypatch.setattr("kernels.dispatch.MODE", mode)
    lists = drawn(device, torch.bfloat16, torch.bfloat16, sizes=[(5,), (130,)])
    gradients = copied(lists)["gradients"]
    right = exact(lists, step=1, factor=0.125)
    adamw_step(**lists, **OPTIONS, step=1, clip_coefficient=torch.tensor(0.125, device=device))
    assert_right(lists, right)
    for found, before in zip(lists["gradients"], gradients, strict=True):
        assert torch.equal(found, before)


@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_a_skipped_step_writes_nothing(
    device: torch.device, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a NaN gradient, or the decay alone, that gets through a skip; and a skip of 0."""
    monkeypatch.setattr("kernels.dispatch.MODE", mode)
    lists = drawn(device, torch.bfloat16)
    lists["gradients"][2].fill_(float("nan"))
    before = copied(lists)
    adamw_step(**lists, **OPTIONS, step=1, skip=torch.ones((), device=device))
    for name in lists.keys() - {"gradients"}:
        for found, kept in zip(lists[name], before[name], strict=True):
            assert torch.equal(found, kept)
    adamw_step(**lists, **OPTIONS, step=1, skip=torch.zeros((), device=device))
    assert lists["masters"][2].isnan().all() and not torch.equal(
        lists["masters"][4], before["masters"][4]
    )


def test_special_numbers_stay_in_their_element(device: torch.device) -> None:
    """Catches NaN or infinity that spreads, and squares that overflow where torch's do not."""
    lists = drawn(device, sizes=[(6,)])
    gradient = lists["gradients"][0]
    gradient[1], gradient[2], gradient[3] = float("nan"), float("inf"), 1e15
    gradient[4], lists["exp_avg"][0][4], lists["exp_avg_sq"][0][4] = 0.0, 0.0, 0.0
    adamw_step(**lists, **OPTIONS, step=1)
    assert lists["parameters"][0].isnan().tolist() == [False, True, True, False, False, False]
    assert lists["parameters"][0][3].isfinite()


def test_plans_serve_new_gradients_and_other_lists(device: torch.device) -> None:
    """Catches addresses that are kept from an earlier step, and sizes of another group."""
    lists = drawn(device, torch.bfloat16, sizes=[(5,), (130,)])
    other = drawn(device, torch.bfloat16, sizes=[(CHUNK + 1,), (3,)])
    plans = TensorPlans()
    kept = []
    for step in range(1, 4):
        kept.append(lists["gradients"])
        lists["gradients"] = [torch.randn_like(g) for g in lists["gradients"]]
        right = exact(lists, step)
        adamw_step(**lists, **OPTIONS, step=step, plans=plans)
        assert_right(lists, right)
        right = exact(other, step)
        adamw_step(**other, **OPTIONS, step=step, plans=plans)
        assert_right(other, right)


def test_the_number_of_an_update_may_be_the_devices(device: torch.device) -> None:
    """Catches bias corrections that are not those of the number in the tensor."""
    for step in (1, 7, 10**6):
        lists = drawn(device, torch.bfloat16)
        right = exact(lists, step)
        wrong = exact(lists, step + 1)
        number = torch.tensor(float(step), dtype=torch.float64, device=device)
        adamw_step(**lists, **OPTIONS, step=number)
        assert_right(lists, right)
        if step == 1:
            with pytest.raises(AssertionError):
                assert_right(lists, wrong)


def test_no_tensors_are_no_work(device: torch.device) -> None:
    """Catches a group without parameters, or of empty ones alone, that fails."""
    nothing: Lists = {name: [] for name in ("parameters", "gradients", "exp_avg", "exp_avg_sq")}
    adamw_step(**nothing, **OPTIONS, step=1)
    adamw_step(**drawn(device, sizes=[(0,), (3, 0)]), **OPTIONS, step=1)


def test_operator_keeps_its_contract(device: torch.device) -> None:
    """Catches a fake or a schema that says other than the kernel does."""
    for dtype in (torch.float32, torch.bfloat16):
        lists = drawn(device, dtype, sizes=[(5,), (70,)])
        chunks = Chunks.of([5, 70], device)
        scalars = [0.9, 0.1, 0.95, 0.05, 0.01, 0.5, 1e-8]
        factor = torch.tensor(0.5, device=device)
        tables = (chunks.owner, chunks.first, chunks.sizes)
        masters = lists.pop("masters", [])
        corrections = torch.tensor([0.01, 0.5], device=device)
        arguments = (*lists.values(), masters, *tables, scalars, factor, None, corrections)
        torch.library.opcheck(_adamw_op, arguments)


def test_step_is_seen_through_without_running(device: torch.device) -> None:
    """Catches addresses taken while tracing, of tensors that the compiler then replaces."""
    lists = drawn(device, torch.bfloat16, sizes=[(5,), (70,)])
    plans = TensorPlans()
    right = exact(lists, step=1)

    def update(lists: Lists) -> None:
        adamw_step(**lists, **OPTIONS, step=1, plans=plans)

    torch.compile(update, fullgraph=True, backend="aot_eager")(lists)
    assert_right(lists, right)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        adamw_step(
            **{name: [mode.from_tensor(x) for x in xs] for name, xs in lists.items()},
            **OPTIONS,
            step=1,
        )


@pytest.mark.parametrize("mode", ["triton", "reference"])
def test_bad_arguments_are_named(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches mistakes that would write at a wrong address, on either path."""
    monkeypatch.setattr("kernels.dispatch.MODE", mode)
    device = torch.device("cpu")
    strided = torch.randn(4, 6)[:, ::2]
    for message, name, tensor in (
        (
            r"parameters\[1\] without masters: dtype bfloat16",
            "parameters",
            torch.zeros(4).bfloat16(),
        ),
        (r"gradients\[1\]: dtype float64", "gradients", torch.zeros(4).double()),
        (r"gradients\[1\]: shape \[3\]", "gradients", torch.zeros(3)),
        (r"exp_avg\[1\]: dtype bfloat16", "exp_avg", torch.zeros(4).bfloat16()),
        (r"exp_avg_sq\[1\]: is on meta", "exp_avg_sq", torch.zeros(4, device="meta")),
        (r"exp_avg\[1\]: strides \(2,\)", "exp_avg", torch.zeros(8)[::2]),
        (r"parameters\[1\]: is neither contiguous nor dense", "parameters", torch.zeros(8)[::2]),
    ):
        lists = drawn(device, sizes=[(2,), (4,)])
        lists[name][1] = tensor
        with pytest.raises(ValueError, match=message):
            adamw_step(**lists, **OPTIONS, step=1)
    lists = drawn(device, sizes=[(2,), (4, 3)])
    lists["parameters"][1] = strided
    for message, changed in (
        ("step: 0 is below 1", {"step": 0}),
        ("skip: dtype bool", {"skip": torch.tensor(True)}),
        ("clip_coefficient: shape", {"clip_coefficient": torch.ones(1)}),
        ("exp_avg: has 1 tensors, but parameters 2", {"exp_avg": lists["exp_avg"][:1]}),
        (r"masters\[1\]: strides", {"masters": [torch.zeros(2), torch.zeros(3, 4).t()]}),
        (r"parameters\[1\]: is neither", {}),
    ):
        good = drawn(device, sizes=[(2,), (4, 3)]) if changed else lists
        with pytest.raises(ValueError, match=message):
            adamw_step(**(good | OPTIONS | {"step": 1} | changed))
