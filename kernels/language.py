"""Triton, by the two names that kernels use, or a stub where it is not installed.

Triton exists for Linux only. Elsewhere kernels are defined on the stub and never launched:
`dispatch.use_triton` raises ValueError where one is asked for.
"""

from typing import Any

try:
    import triton
    import triton.language as tl
except ModuleNotFoundError as error:
    if error.name != "triton":
        raise

    class _Absent:
        """Stands for any part of Triton while kernels are defined."""

        def __getattr__(self, name: str) -> "_Absent":
            if name.startswith("__"):
                raise AttributeError(name)
            return self

        def __call__(self, *_: Any, **__: Any) -> "_Absent":
            return self

    triton = tl = _Absent()
    AVAILABLE = False
else:
    AVAILABLE = True

__all__ = ["AVAILABLE", "tl", "triton"]
