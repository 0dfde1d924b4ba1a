"""The checks of what callers pass: what each lets through, and the one line it says."""

from collections.abc import Callable

import pytest
import torch

from kernels.arguments import check, check_device, check_dtype, check_last_stride, check_shape

META = torch.device("meta")
X = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check(False, "rows: 3 is odd"), "rows: 3 is odd"),
        (
            lambda: check_dtype("x", X.half()),
            "x: dtype float16 is not supported; use float32 or bfloat16",
        ),
        (
            lambda: check_dtype("labels", X, (torch.int64,)),
            "labels: dtype float32 is not supported; use int64",
        ),
        (
            lambda: check_device("weight", X.to(META), "x", X),
            "weight: is on meta, but x on cpu; move one",
        ),
        (
            lambda: check_shape("weight", X, (3,), "[hidden]"),
            "weight: shape [2, 3] should be [hidden] = [3]",
        ),
        (
            lambda: check_last_stride("x", X.t()),
            "x: stride 3 in the last dimension should be 1; call contiguous()",
        ),
    ],
    ids=["condition", "dtype", "one dtype", "device", "shape", "stride"],
)
def test_a_wrong_argument_is_named_with_what_is_allowed(
    call: Callable[[], None], message: str
) -> None:
    """Catches a message that leaves the caller guessing, or runs over several lines."""
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == message


def test_right_arguments_pass() -> None:
    """Negative control: catches checks that always fail."""
    check(True, "")
    for dtype in (torch.float32, torch.bfloat16):
        check_dtype("x", X.to(dtype))
    check_device("weight", X, "x", X)
    check_shape("x", X, (2, 3), "[rows, hidden]")
    check_shape("x", X, X.shape, "x's shape")
    check_last_stride("x", X)
    check_last_stride("x", X[:, :2])
    check_last_stride("x", X.t()[:, :1])  # one column: its stride is never used
