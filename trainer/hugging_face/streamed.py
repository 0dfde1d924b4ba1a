"""Forward passes of our model and of transformers' with weights streamed from disk.

Both models are built on the meta device. A hook before each module reads its weights as fp32, and
one after it drops them. Of the embedding only the rows of the tokens are read, and the output layer
multiplies blocks of its rows.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trainer.hugging_face.names import EMBEDDING, HEAD
from trainer.model.attention import CachedSequence
from trainer.model.key_values import GrowingKeyValues
from trainer.model.rotary import RotaryEmbedding, rotary_embedding
from trainer.model.sequence import SequenceLayout
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave
from trainer.parallel.sharding import global_name
from trainer.recipe import Recipe

ReadRows = Callable[[str, int, int], Tensor]
"""(name, first, last) -> rows [first, last) of a tensor, in any floating dtype."""

Cached = Sequence[tuple[Tensor, Tensor]]
"""The rotated keys and the values of each layer, fp32 [batch, kv_heads, tokens, head_size]."""

_BLOCK_BYTES = 8 << 20


def our_logits(
    recipe: Recipe,
    read: ReadRows,
    tokens: Tensor,
    positions: Tensor | None = None,
    cached: Cached | None = None,
) -> Tensor:
    """Logits of our model, fp32 [batch, sequence, vocabulary], for ids [batch, sequence].

    `read` takes our global names; `positions`: int64 [sequence], ascending (None: from 0); or
    `cached`: each layer's keys and values of the tokens before these. The process must not be part
    of another layout.
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
        rotary = rotary_embedding(recipe)
        if cached is not None:
            return cast(Tensor, model(tokens, _continuing(tokens, cached, rotary)))
        if positions is None:
            positions = torch.arange(tokens.shape[1])
        return cast(
            Tensor, model(tokens, SequenceLayout.whole(positions.expand(tokens.shape), rotary))
        )
    finally:
        leave()


def _continuing(tokens: Tensor, cached: Cached, rotary: RotaryEmbedding) -> CachedSequence:
    """The layout of tokens [batch, sequence] behind the cached ones, in one document."""
    before, new = cached[0][0].shape[2], tokens.shape[1]
    rows, places = len(tokens), torch.arange(before + new)
    growing = GrowingKeyValues(before + new)
    growing.begin(before)
    for layer, (key, value) in enumerate(cached, start=1):
        growing.extend(layer, key.permute(2, 0, 1, 3), value.permute(2, 0, 1, 3))
    growing.begin(new)
    return CachedSequence(
        places[before:].expand(rows, -1),
        None,
        rotary,
        key_values=growing,
        key_positions=places[None],
        dense=(places <= places[before:, None]).expand(rows, -1, -1),
    )


def their_logits(
    keys: dict[str, Any],
    family: str,
    read: ReadRows,
    tokens: Tensor,
    positions: Tensor | None = None,
    cached: Cached | None = None,
    *,
    exact_angles: bool = False,
) -> Tensor:
    """Logits of transformers' model, as `our_logits`.

    `keys`: of config.json; `family`: its model type; `read` takes Hugging Face names;
    `exact_angles`: form them in fp64, where ours are. transformers' own, in fp32, are off by up to
    0.004 rad at position 100,000, which would hide other differences.
    """
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, DynamicCache

    config = CONFIG_MAPPING[family].from_dict(deepcopy(keys))
    with torch.device("meta"):
        network: Any = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation="eager"
        )
    rotary = network.model.rotary_emb
    network.model.rotary_emb = rotary = type(rotary)(config)  # its frequencies are no weights
    if exact_angles:
        rotary.forward = _exactly(rotary.forward)
    model = _Streamed(network.eval(), read)
    model.embed("model.embed_tokens")
    head = "model.embed_tokens" if config.tie_word_embeddings else "lm_head"
    model.project("lm_head", f"{head}.weight", lambda logits: logits)
    cache: Any = DynamicCache(config=config) if cached is not None else None
    for layer, (key, value) in enumerate(cached or ()):
        cache.update(key, value, layer)
    logits: Tensor = model(
        input_ids=tokens,
        # Given with a mask, positions do not end a document where they leap.
        position_ids=None if positions is None else positions[None],
        attention_mask=None if positions is None else torch.ones_like(tokens),
        past_key_values=cache,
        use_cache=cache is not None,
    ).logits
    return logits


class _Fp64Positions(TorchFunctionMode):
    """Inside this mode integers become fp64 where they would become fp32."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        if function is Tensor.float and not arguments[0].is_floating_point():
            function = Tensor.double
        return function(*arguments, **(keywords or {}))


def _exactly(forward: Callable[..., Any]) -> Callable[..., Any]:
    def exact(*arguments: Any, **keywords: Any) -> Any:
        with _Fp64Positions():
            return forward(*arguments, **keywords)

    return exact


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
