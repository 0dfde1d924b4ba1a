"""megatron-core's compiled functions wait for their first call, and are then as they were."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.parallel import lazy_compile
from trainer.parallel.lazy_compile import compile_at_first_call

ROWS = torch.arange(12.0).reshape(3, 4) / 7 - 0.8


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of each call of torch.compile, in order."""
    calls: list[dict[str, Any]] = []

    def counted(function: Any, **options: Any) -> Any:
        calls.append(options)
        return torch.compile(function, **{"backend": "eager", **options})

    monkeypatch.setattr(lazy_compile, "_compile", counted)
    return calls


def test_a_function_is_compiled_once_and_at_its_first_call(compilations: list[Any]) -> None:
    """Catches a decorator that compiles on import, and one that compiles at every call."""

    @compile_at_first_call
    def double(x: Tensor) -> Tensor:
        """Twice x."""
        return x * 2

    assert compilations == [] and double.__doc__ == "Twice x."
    for _ in range(2):
        torch.testing.assert_close(double(ROWS), ROWS * 2, rtol=0, atol=0)
    assert compilations == [{}]


def test_options_reach_the_compiler(compilations: list[Any]) -> None:
    """Catches `@torch.compile(dynamic=...)` losing what stands in its brackets; methods too."""

    class Scale:
        factor = 3

        @compile_at_first_call(dynamic=False)
        def __call__(self, x: Tensor) -> Tensor:
            return x * self.factor

    torch.testing.assert_close(Scale()(ROWS), ROWS * 3, rtol=0, atol=0)
    assert compilations == [{"dynamic": False}]


def test_inside_a_graph_it_is_part_of_the_graph(compilations: list[Any]) -> None:
    """Catches a break in a compiled layer: fullgraph raises at one."""

    @compile_at_first_call
    def double(x: Tensor) -> Tensor:
        return x * 2

    whole = torch.compile(lambda x: double(x) + 1, backend="eager", fullgraph=True)
    torch.testing.assert_close(whole(ROWS), ROWS * 2 + 1, rtol=0, atol=0)
    assert compilations == []


# In a process of its own: another test may have imported megatron-core by itself before.
ENTRY = """
import sys
import trainer.parallel.megatron
assert "torch._dynamo" not in sys.modules, "the compiler is loaded"

import torch
from megatron.core.fusions.fused_bias_swiglu import swiglu
from trainer.parallel import lazy_compile
compile, made = torch.compile, []
assert compile is lazy_compile._compile, "torch.compile is not itself again"
lazy_compile._compile = lambda function: made.append(function) or compile(function, backend="eager")
gate, value = torch.ones(3, 2), torch.arange(6.0).reshape(3, 2)
found = swiglu(torch.cat([gate, value], -1))
torch.testing.assert_close(found, torch.nn.functional.silu(gate) * value)
assert len(made) == 1, made
"""


def test_megatron_is_entered_without_the_compiler_and_computes_as_before() -> None:
    """Catches an import that goes around, and a function that never becomes its compiled one."""
    ended = subprocess.run(
        [sys.executable, "-c", ENTRY], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
