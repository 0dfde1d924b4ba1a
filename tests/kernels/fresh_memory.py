"""Fresh memory that shows, and matrix products that are handed none of it.

Masked loads keep a kernel from reading padding, but what a matrix product reads is its library's
choice: torch's bf16 product on CPUs with AMX reads rows to their stride and multiplies what lies
behind the last column by 0, so that NaN there stays NaN. Only such a CPU shows that; here products
are held to it everywhere: rows are to be written to their stride in all that they are handed.
"""

from typing import Any

import torch
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "matmul", "linear"}
FRESH = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}


class FreshMemory(TorchDispatchMode):
    """Fills allocations with a number, and looks at whole rows of what products are handed."""

    def __init__(self, filling: float) -> None:
        super().__init__()
        self.filling, self.products = filling, 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        options = options or {}
        space, _, name = function._schema.name.partition("::")
        if space == "lyceum":
            with self:
                return OPDEFS[function._schema.name]._init_fn(*arguments, **options)
        if name in PRODUCTS:
            self.products += 1
            # With beta = 0 what is added to is not read, NaN included, as torch documents.
            ignored = "addmm" in name and options.get("beta") == 0
            for operand in arguments[1 if ignored else 0 :]:
                assert not isinstance(operand, Tensor) or written(operand), f"{name} reads padding"
        result = function(*arguments, **options)
        if name in FRESH and result.is_floating_point():
            result.fill_(self.filling)
        return result


def written(matrix: Tensor) -> bool:
    """Whether all memory from the first element to the end of the last row's stride is numbers."""
    whole = torch.empty(0, dtype=matrix.dtype, device=matrix.device)
    whole.set_(matrix.untyped_storage())
    first = matrix.storage_offset()
    ends = (size * stride for size, stride in zip(matrix.shape, matrix.stride(), strict=True))
    return not whole[first : first + max(ends, default=1)].isnan().any()
