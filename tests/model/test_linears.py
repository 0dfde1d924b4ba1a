"""A linear gives the same product, whichever way its size makes it go."""

import pytest
import torch
from torch.nn.functional import linear

from trainer.model.linears import BLOCK, FEW, MORE, product


@pytest.mark.parametrize("rows", [0, 1, FEW, FEW + 1, MORE, MORE + 1])
@pytest.mark.parametrize("outputs", [64, 2 * BLOCK // 96 + 37])
def test_a_product_is_the_same_in_blocks(rows: int, outputs: int) -> None:
    """Catches a block that is left out, a last one that is cut, and a bias that is added twice."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(1, rows, 96), torch.randn(outputs, 96), torch.randn(outputs)
    for added in (None, bias):
        found, expected = product(x, weight, added), linear(x, weight, added)
        assert found.shape == expected.shape and found.is_contiguous()
        # Sums of 96 products of order one, in another order.
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
