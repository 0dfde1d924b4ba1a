"""Transformer layers through torch.compile: one graph per shape, with our kernels inside.

A layer is traced whole (no graph breaks) for the shape of a training micro-batch; other inputs, as
in evaluation or generation, run eagerly and compile nothing. Inductor's output is cached below
LYCEUM_CACHE or ~/.cache/lyceum, unless TORCHINDUCTOR_CACHE_DIR names another folder, so that a
restart need not compile again. It has not been run on a GPU yet.
"""

import logging
import os
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
import torch._dynamo.exc
import torch._inductor.config
import torch._inductor.exc
from torch import Tensor
from torch._dynamo.utils import calculate_time_spent

import trainer.parallel.traced  # noqa: F401  (what graphs hold in place of megatron-core's linears)
from kernels import dispatch
from kernels.attention import CHOICES
from trainer.errors import RecipeError
from trainer.files import cache_folder
from trainer.model.layers import IN_PLACE, Layer
from trainer.model.recompute import SavedTensorStore
from trainer.model.sequence import SequenceLayout
from trainer.recipe import Recipe

if TYPE_CHECKING:
    from trainer.model.transformer import LanguageModel

BACKEND = "inductor"
"""The torch.compile back end that generates code from a graph."""

EAGER = "use kernels.compile=none"

_log = logging.getLogger(__name__)


class CompiledLayer(Layer):
    """A layer whose training passes run one compiled graph."""

    compiled: Callable[..., Tensor]
    compiled_shape: tuple[int, ...]

    def block(
        self,
        hidden_states: Tensor,
        layout: SequenceLayout | None,
        store: SavedTensorStore = IN_PLACE,
    ) -> Tensor:
        """[sequence, batch, hidden] -> the same; compiled for training, else eager.

        Raises RecipeError where this machine or version of torch cannot compile it.
        """
        usual = type(layout) is SequenceLayout and hidden_states.shape == self.compiled_shape
        if not (self.training and usual):
            return super().block(hidden_states, layout, store)
        assert layout is not None
        self._make_ready(layout, hidden_states)
        try:
            return self.compiled(self, hidden_states, layout)
        except torch._dynamo.exc.FailOnRecompileLimitHit as error:
            limit = torch._dynamo.config.recompile_limit
            raise RecipeError(
                f"kernels.compile: layer makes {limit} graphs at most, and the layers of this "
                f"model are of more kinds (lora.targets); {EAGER}"
            ) from error
        except torch._dynamo.exc.TorchDynamoException as error:
            raise RecipeError(_cannot(error)) from error

    def _make_ready(self, layout: SequenceLayout, hidden: Tensor) -> None:
        """Compute what all layers of a micro-batch read (rotation, mask) outside of the graph."""
        core_attention = self.self_attention.core_attention
        _rotation, visible = layout.rotation, layout.visible_through(core_attention.window)
        backend = core_attention.backend
        if backend == "auto" and core_attention.off_by_one:
            backend = dispatch.MODE or ("triton" if hidden.is_cuda else "reference")
        elif backend == "auto":
            on_cuda = "sdpa" if "sdpa" in CHOICES.exported().values() else "triton"
            backend = dispatch.MODE or (on_cuda if hidden.is_cuda else "sdpa")
        if backend == "sdpa":
            visible.mask(hidden.dtype)
        elif backend == "reference":
            visible.mask(torch.promote_types(hidden.dtype, torch.float32))


def compile_layers(chunks: list["LanguageModel"], recipe: Recipe) -> None:
    """Make the training passes of this rank's layers run compiled, from the first one on.

    The first backward pass to reach the rank's first layer logs the seconds spent compiling.
    """
    _use_cache()
    sizes = recipe.parallel
    share = sizes.context * (sizes.tensor if sizes.sequence else 1)
    shape = (recipe.sequence_length // share, recipe.batch.micro, recipe.model.hidden)
    layers = [layer for chunk in chunks for layer in chunk.decoder.layers]
    compiled = torch.compile(
        _with_own_limit(Layer.block),
        fullgraph=True,
        dynamic=False,
        backend=BACKEND,
        options=_options(recipe),
    )
    for layer in layers:
        layer.__class__ = CompiledLayer
        layer.compiled, layer.compiled_shape = compiled, shape
    if layers:
        _log_when_done(layers[0], len(layers))


def compile_seconds() -> float:
    """Seconds that this process has spent in torch.compile so far, for all functions."""
    return float(calculate_time_spent().get("total_wall_time", 0.0))


def _with_own_limit(function: Any) -> Any:
    """A copy of the function: torch counts recompiles by code object, over all models."""
    return FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )


def _options(recipe: Recipe) -> dict[str, Any] | None:
    """Inductor's options: where `kernels.deterministic`, no autotuning that changes rounding."""
    if BACKEND != "inductor" or not hasattr(torch._inductor.config, "deterministic"):
        return None
    return {"deterministic": recipe.kernels.deterministic}


def _use_cache() -> None:
    """Point inductor's cache, Triton kernels included, to the user's cache folder."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder("compiled")))


def _log_when_done(first: Any, count: int) -> None:
    before = compile_seconds()

    def done(_gradient: Tensor) -> None:
        _log.info("compiled %d layers in %.1f s", count, compile_seconds() - before)

    def entered(_module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        hidden = arguments[0] if arguments else named["hidden_states"]
        if hidden.requires_grad and hidden.shape == first.compiled_shape and first.training:
            handle.remove()
            hidden.register_hook(done)

    handle = first.register_forward_pre_hook(entered, with_kwargs=True)


def _cannot(error: Exception) -> str:
    """Why a layer could not be compiled, in one line."""
    cause: BaseException | None = error
    while cause is not None:
        if "CxxCompiler" in type(cause).__name__:
            return (
                f"kernels.compile: layer needs a C++ compiler on the CPU, and none was found; "
                f"install g++ (or name one in CXX) or {EAGER}"
            )
        cause = getattr(cause, "inner_exception", None) or cause.__cause__
    reason = str(error).strip().splitlines()[0]
    return f"kernels.compile: torch {torch.__version__} cannot compile the layer: {reason}; {EAGER}"
