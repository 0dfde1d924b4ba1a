"""RUN/waits.json: unnecessary host synchronizations with the device in the steady state.

On CUDA PyTorch reports them itself (torch.cuda.set_sync_debug_mode). On a CPU there are none;
reported there are the lines that would synchronize on a GPU: those that read, in Python, a number
computed from the weights.
"""

import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from trainer.observe.callback import Callback, RunStart
from trainer.parallel.device import runs_ahead
from trainer.recovery.status_file import write_json

WAITS = "waits.json"
WARM_UP_STEPS = 3
"""Steps before the steady state, with compilation and growth of the allocator's memory."""

_OURS = ("trainer", "kernels")
_SYNCHRONIZING = "called a synchronizing CUDA operation"
"""The start of PyTorch's warning of a synchronization; enabling the mode gives another one."""
_ROOT = Path(__file__).resolve().parents[2]
_READING = "trainer/parallel/device.py"  # the one place that reads, a step late
_CPU_ONLY = ("kernels/adamw.py", ("reference", "_reference_step"))  # a kernel needs no such read


class Waits(Callback):
    """Records the host's synchronizations from the end of the warm-up to the run's end."""

    def __init__(self) -> None:
        self._found: Counter[tuple[str, str]] = Counter()
        self._steps = 0
        self._watching = ExitStack()
        self._run: RunStart | None = None

    def on_start(self, run: RunStart) -> None:
        """Remember the run."""
        self._run = run

    def on_step(self, record: dict[str, Any]) -> None:
        """Start recording after the warm-up."""
        self._steps += 1
        if self._steps == WARM_UP_STEPS:
            assert self._run is not None
            watch = _cuda_waits if runs_ahead(self._run.device) else _reads_on_cpu
            watch(self._watching, self._note)

    def on_stop(self, state: str, reason: str, exit_code: int | None = None) -> None:
        """Write waits.json, the most frequent first."""
        self._watching.close()
        assert self._run is not None
        on_gpu = runs_ahead(self._run.device)
        write_json(
            self._run.folder / WAITS,
            {
                "steps": max(0, self._steps - WARM_UP_STEPS),
                "how": "torch.cuda.set_sync_debug_mode" if on_gpu else "reads of computed numbers",
                "waits": [
                    {"where": where, "what": what, "times": times}
                    for (where, what), times in self._found.most_common()
                ],
            },
        )

    def _note(self, what: str) -> None:
        path, line, function = _innermost_frame()
        if path != _READING and not (path == _CPU_ONLY[0] and function in _CPU_ONLY[1]):
            self._found[(f"{path}:{line} {function}", what)] += 1


def _innermost_frame() -> tuple[str, int | None, str]:
    """The innermost stack frame in our own code: ("trainer/run.py", 121, "count")."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if not path.is_relative_to(_ROOT) or path == Path(__file__).resolve():
            continue
        inside = path.relative_to(_ROOT)
        if inside.parts[0] in _OURS:
            return inside.as_posix(), frame.lineno, frame.name
    return "elsewhere", 0, ""


def _cuda_waits(watching: ExitStack, note: Callable[[str], None]) -> None:
    before = torch.cuda.get_sync_debug_mode()
    watching.callback(torch.cuda.set_sync_debug_mode, before)
    watching.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("always", message=_SYNCHRONIZING)
    show = warnings.showwarning

    def show_or_note(message: Warning | str, *rest: Any, **options: Any) -> None:
        if str(message).startswith(_SYNCHRONIZING):
            note(str(message).splitlines()[0])
        else:
            show(message, *rest, **options)

    warnings.showwarning = show_or_note
    torch.cuda.set_sync_debug_mode("warn")


def _reads_on_cpu(watching: ExitStack, note: Callable[[str], None]) -> None:
    computed = watching.enter_context(_Computed())
    watching.enter_context(_Reads(computed, note))


class _Computed(TorchDispatchMode):
    """Tracks which tensors are computed from weights, through every operator and autograd."""

    def __init__(self) -> None:
        super().__init__()
        self._known = WeakIdKeyDictionary()

    def __contains__(self, tensor: Tensor) -> bool:
        return isinstance(tensor, torch.nn.Parameter) or tensor in self._known

    def __torch_dispatch__(
        self, operator: Any, _types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        result = operator(*arguments, **(options or {}))
        given = [x for x in tree_leaves((arguments, options)) if isinstance(x, Tensor)]
        if any(x in self for x in given):
            written = given if operator._schema.is_mutable else []
            for tensor in (*written, *tree_leaves(result)):
                if isinstance(tensor, Tensor):
                    self._known[tensor] = True
        return result


class _Reads(TorchFunctionMode):
    """Calls `note` for each read in Python of a tensor computed from weights."""

    _READING = frozenset(
        getattr(Tensor, name)
        for name in (
            *("item", "tolist", "numpy", "nonzero", "__bool__", "__float__", "__int__"),
            *("__index__", "__format__", "__array__", "equal"),
        )
    )

    def __init__(self, computed: _Computed, note: Callable[[str], None]) -> None:
        super().__init__()
        self._computed, self._note = computed, note

    def __torch_function__(
        self, function: Any, _types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        if function in self._READING and arguments[0] in self._computed:
            self._note(function.__name__)
        return function(*arguments, **(options or {}))
