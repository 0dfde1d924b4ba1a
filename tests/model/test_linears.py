"""A linear gives the same product, whichever way its size makes it go."""

import pytest
import torch
from torch.nn.functional import linear
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.model.linears import SMALL, product

INPUTS = 96


class Products(TorchDispatchMode):
    """Counts the batches of products."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):  # type: ignore
        self.batches += function is torch.ops.aten.bmm.default
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 15, 16])
@pytest.mark.parametrize("outputs", [64, SMALL // INPUTS // 128 * 128 + 128, SMALL // INPUTS + 37])
def test_a_product_is_the_same_in_blocks(rows: int, outputs: int) -> None:
    """Catches blocks in the wrong order or place, and a bias that is added twice."""
    torch.manual_seed(0)
    x, weight, bias = (
        torch.randn(1, rows, INPUTS),
        torch.randn(outputs, INPUTS),
        torch.randn(outputs),
    )
    blocks = rows in (4, 15) and weight.numel() >= SMALL and outputs % 128 == 0
    for added in (None, bias):
        with Products() as counted:
            found = product(x, weight, added)
        expected = linear(x, weight, added)
        assert counted.batches == blocks
        assert found.shape == expected.shape and found.is_contiguous()
        # Sums of 96 products of order one, in another order.
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
