"""Forward passes of our model and of transformers' with weights streamed from disk.

Both models are built on the meta device. A hook before each module reads its weights as fp32, and
one after it drops them. Of the embedding only the rows of the tokens are read, and the output layer
multiplies blocks of its rows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trainer.hugging_face.names import EMBEDDING, HEAD
from trainer.model.sequence import SequenceLayout, rope_frequencies
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave
from trainer.parallel.sharding import global_name
from trainer.recipe import Recipe

ReadRows = Callable[[str, int, int], Tensor]
"""(name, first, last) -> rows [first, last) of a tensor, in any floating dtype."""

_BLOCK_BYTES = 8 << 20


def our_logits(recipe: Recipe, read: ReadRows, tokens: Tensor) -> Tensor:
    """Logits of our model, fp32 [batch, sequence, vocabulary], for ids [batch, sequence].

    `read` takes our global names. The process must not be part of another layout.
    """
    assert recipe.model.vocab is not None, "the rows of the embedding are known"
    layout = create_layout(recipe)
    try:
        with _WithoutMemory():
            chunk: Any = build_model(recipe, recipe.model.vocab, layout)[0]

        def read_local(name: str, first: int, last: int) -> Tensor:
            return read(global_name(chunk, name), first, last)

        model = _Streamed(chunk.eval(), read_local)
        model.embed("embedding.word_embeddings")
        head = EMBEDDING if recipe.model.tied_embeddings else HEAD
        # Without targets megatron-core's linears give (product, bias).
        model.project("output_layer", head, lambda logits: (logits, None))
        positions = torch.arange(tokens.shape[1]).expand(tokens.shape)
        logits: Tensor = model(tokens, SequenceLayout.whole(positions, rope_frequencies(recipe)))
        return logits
    finally:
        leave()


def their_logits(keys: dict[str, Any], family: str, read: ReadRows, tokens: Tensor) -> Tensor:
    """Logits of transformers' model, as `our_logits`.

    `keys`: of config.json; `family`: its model type; `read` takes Hugging Face names.
    """
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    config = CONFIG_MAPPING[family].from_dict(dict(keys))
    with torch.device("meta"):
        network: Any = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation="eager"
        )
    rotary = network.model.rotary_emb
    network.model.rotary_emb = type(rotary)(config)  # its frequencies are no weights
    model = _Streamed(network.eval(), read)
    model.embed("model.embed_tokens")
    head = "model.embed_tokens" if config.tie_word_embeddings else "lm_head"
    model.project("lm_head", f"{head}.weight", lambda logits: logits)
    logits: Tensor = model(input_ids=tokens, use_cache=False).logits
    return logits


class _WithoutMemory(TorchFunctionMode):
    """Inside this mode tensors are created on the meta device, whatever device is asked for."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        keywords = dict(keywords or {})
        if function in (torch.empty, torch.zeros, torch.ones):
            keywords["device"] = "meta"
        return function(*arguments, **keywords)


class _Streamed:
    """A network on the meta device, whose parameters `read` reads when a module runs."""

    def __init__(self, network: nn.Module, read: ReadRows) -> None:
        self._network = network
        self._read = read
        self._shapes = {
            name: tuple(parameter.shape)
            for name, parameter in network.named_parameters(remove_duplicate=False)
        }
        for prefix, module in network.named_modules():
            if any(parameter is not None for parameter in module._parameters.values()):
                self._hook(prefix, module)

    @torch.no_grad()
    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._network(*arguments, **keywords)

    def embed(self, name: str) -> None:
        """Let the embedding `name` read the rows of its tokens from disk."""
        weight = f"{name}.weight"

        def forward(tokens: Tensor) -> Tensor:
            different, inverse = tokens.unique(return_inverse=True)
            rows = torch.empty(len(different), self._shapes[weight][1])
            for index, row in enumerate(different.tolist()):
                rows[index] = self._read(weight, row, row + 1)[0]  # copied: each maps its file
            return rows[inverse]

        self._replace(name, forward)

    def project(self, name: str, weight: str, result: Callable[[Tensor], Any]) -> None:
        """Let the linear `name` multiply with blocks of rows of `weight`; `result` wraps it."""
        shape = self._shapes[weight]

        def forward(hidden: Tensor, *_: Any, **__: Any) -> Any:
            product = torch.empty(*hidden.shape[:-1], shape[0])
            for first, last in _row_blocks(shape):
                rows = self._read(weight, first, last).float()
                product[..., first:last] = hidden @ rows.t()
            return result(product)

        self._replace(name, forward)

    def _replace(self, name: str, forward: Callable[..., Any]) -> None:
        module: Any = self._network.get_submodule(name)
        module._forward_pre_hooks.clear()
        module._forward_hooks.clear()
        module.forward = forward

    def _hook(self, prefix: str, module: nn.Module) -> None:
        without = dict(module._parameters)

        def fill(*_: Any) -> None:
            for name, parameter in without.items():
                if parameter is not None:
                    values = self._whole(f"{prefix}.{name}")
                    module._parameters[name] = nn.Parameter(values, requires_grad=False)

        def drop(*_: Any) -> None:
            module._parameters.update(without)

        module.register_forward_pre_hook(fill)
        module.register_forward_hook(drop)

    def _whole(self, name: str) -> Tensor:
        shape = self._shapes[name]
        whole = torch.empty(shape)
        for first, last in _row_blocks(shape):
            whole[first:last] = self._read(name, first, last)
        return whole


def _row_blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Ranges of rows of a few MiB of fp32 each."""
    rows = max(1, _BLOCK_BYTES // (4 * prod(shape[1:])))
    for first in range(0, shape[0], rows):
        yield first, min(first + rows, shape[0])


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' warnings inside the block."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
