"""Proof of windows and rotations by short models: the same configuration, but narrow layers.

Two implementations may differ only beyond some length: a window, the context that the rotation was
made for, the longest trained sequence. The real weights would take too long to get there, and the
lengths do not depend on them.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from trainer.hugging_face.config import ModelDescription, conversion_recipe
from trainer.hugging_face.names import tensor_map
from trainer.hugging_face.streamed import Cached, our_logits, their_logits
from trainer.recipe.model import ModelSection

NEW = 64
"""Tokens that are compared at each length, from before it to beyond."""

_HIDDEN, _FFN, _VOCAB, _HEADS = 64, 32, 128, 2
_SMALL_WINDOW = 8


def borders(described: ModelDescription, model: ModelSection, trained: int = 0) -> dict[str, int]:
    """The lengths, in tokens, beyond which two implementations of a model may first differ.

    `trained`: tokens of the longest text that it was trained on, if `described` does not say so.
    """
    found = {"positions": max(described.positions, trained)}
    if windows := [each.window for each in (model, described.model) if each.window is not None]:
        found["window"] = max(windows)
    scaling = model.rope_scaling
    if scaling is not None and scaling.type != "linear":
        found["original context"] = scaling.original_context
        found["stretched context"] = int(scaling.factor * scaling.original_context)
    return found


def largest_difference(described: ModelDescription, model: ModelSection, trained: int = 0) -> float:
    """The largest difference of any logit between transformers' short model of a config.json and
    ours of a model section, at every one of `borders`.
    """
    lengths = borders(described, model, trained)
    seen = list(zip(model.windows, described.model.windows, strict=True))
    layers = [seen.index(both) for both in dict.fromkeys(seen)]
    short = _ShortModel(described, model, layers, model.window)
    differences = [short.difference(positions=each) for each in _positions(lengths)]
    window = lengths.get("window")
    # transformers' cache of a window of 1 is to keep its last 0 tokens, and keeps all.
    if window is not None and 1 not in (model.window, described.model.window):
        # Where the window begins to matter, and where the cache holds more than it.
        for before in (window - NEW // 2, window + NEW // 2):
            differences.append(short.difference(before=before) if before > 0 else 0.0)
    if len(layers) > 1:
        every = _ShortModel(described, model, list(range(model.layers)), _SMALL_WINDOW)
        differences.append(every.difference(positions=torch.arange(NEW)))
    return max(differences)


def _positions(lengths: dict[str, int]) -> Iterator[Tensor]:
    """Ascending positions, int64 [NEW]: spread from 0 on, then dense around a border."""
    for length in sorted(set(lengths.values())):
        if length < NEW - NEW // 4:
            yield torch.arange(NEW)
            continue
        spread = torch.linspace(0, length - NEW // 4, NEW // 2).long()
        yield torch.cat((spread, spread[-1] + torch.arange(1, NEW // 2 + 1)))


class _ShortModel:
    """Narrow models of some of a configuration's layers, with the same random weights.

    `layers`: their numbers; `window`: what the windows are set to on both sides.
    """

    def __init__(
        self,
        described: ModelDescription,
        model: ModelSection,
        layers: list[int],
        window: int | None,
    ) -> None:
        local = [model.windows[layer] is not None for layer in layers]
        kinds: Any = tuple("local" if kind else "global" for kind in local)
        self._model = model.model_copy(
            update={
                **{"layers": len(layers), "hidden": _HIDDEN, "ffn": _FFN, "vocab": _VOCAB},
                **{"heads": _HEADS, "kv_heads": 1, "head_size": model.head_width},
                **{"padding_token": None, "padding_gradient": True},
                **{"tied_embeddings": False, "window": window if any(local) else None},
                "window_pattern": kinds if any(local) and not all(local) else None,
            }
        )
        self._keys = _narrowed(described, layers, model, window)
        self._family = described.family
        self._recipe = conversion_recipe(self._model, NEW, "fp32", "unused").model_copy(
            update={"device": "cpu"}
        )
        self._random = torch.Generator().manual_seed(0)
        self._joined = {joined.name: joined for joined in tensor_map(self._model)}
        self._weights = {
            part.name: self._weight(part.shape)
            for joined in self._joined.values()
            for part in joined.parts
        }

    def _weight(self, shape: tuple[int, ...]) -> Tensor:
        values = torch.randn(shape, generator=self._random)
        return 1.0 + 0.1 * values if len(shape) == 1 else values / shape[1] ** 0.5

    def difference(self, positions: Tensor | None = None, before: int = 0) -> float:
        """The largest difference of any logit of NEW tokens, at `positions` or behind `before`
        cached ones.
        """
        tokens = torch.randint(0, _VOCAB, (1, NEW), generator=self._random)
        cached = None if positions is not None else self._cached(before)
        ours = our_logits(self._recipe, self._read_ours, tokens, positions, cached)
        theirs = their_logits(
            *(self._keys, self._family, self._read_theirs, tokens, positions, cached),
            exact_angles=self._model.rope_angles == "exact",
        )
        return ours.sub_(theirs).abs_().max().item()

    def _cached(self, tokens: int) -> Cached:
        """Random keys, and values so large that every single one of them is seen in the logits."""
        shape = (1, 1, tokens, self._model.head_width)
        return [
            (
                torch.randn(shape, generator=self._random),
                torch.randn(shape, generator=self._random) * (tokens + NEW) ** 0.5,
            )
            for _ in range(self._model.layers)
        ]

    def _read_ours(self, name: str, first: int, last: int) -> Tensor:
        return self._joined[name].join(self._weights.__getitem__)[first:last]

    def _read_theirs(self, name: str, first: int, last: int) -> Tensor:
        return self._weights[name][first:last]


def _narrowed(
    described: ModelDescription, layers: list[int], model: ModelSection, window: int | None
) -> dict[str, Any]:
    """The keys of a config.json for some of its layers, made narrow; rotation and windows stay."""
    keys = described.keys | {
        **{"num_hidden_layers": len(layers), "hidden_size": _HIDDEN, "intermediate_size": _FFN},
        **{"num_attention_heads": _HEADS, "num_key_value_heads": 1, "vocab_size": _VOCAB},
        **{"head_dim": model.head_width, "tie_word_embeddings": False},
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")),
    }
    types = described.layer_types
    if types is not None:
        keys["layer_types"] = [types[layer] for layer in layers]
    if window != model.window:
        keys["sliding_window"] = window
    return keys
