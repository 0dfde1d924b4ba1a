"""`lora`: which modules of a base are adapted or trained whole, and how wide the adapters are."""

import difflib
import fnmatch
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import Field

from trainer.errors import RecipeError
from trainer.recipe.section import Count, Names, Positive, Section
from trainer.recipe.shape import (
    EMBEDDING,
    HEAD,
    LINEARS,
    block_linears,
    linear_names,
    modules,
)

if TYPE_CHECKING:
    from trainer.recipe.model import ModelSection
    from trainer.recipe.recipe import Recipe

TABLES = (EMBEDDING, HEAD)
"""The modules with one row a token."""

_T = TypeVar("_T")
Alpha = Annotated[float, Field(gt=0.0)]


class LoraSection(Section):
    """Low-rank adapters on a frozen base (arXiv:2106.09685): `init_from` names the base."""

    rank: Positive = 16
    """Inner width of an adapter."""
    alpha: Alpha | None = None
    """An adapter's output is scaled by alpha / rank; none: twice its rank."""
    rank_pattern: dict[str, Positive] = Field(default_factory=dict)
    """Another rank for some of the targets, named as in `targets`, as {q_proj: 32}; of several that
    mean the same layer the first counts."""
    alpha_pattern: dict[str, Alpha] = Field(default_factory=dict)
    """Another alpha for some of the targets, as `rank_pattern`."""
    rslora: bool = False
    """Whether the scale is alpha / sqrt(rank), so that wide adapters learn (arXiv:2312.03732)."""
    targets: Names = LINEARS
    """The modules that get one: linear layers, by name (q_proj) or by patterns over whole names,
    such as model.layers.1?.mlp.*; and embed_tokens and lm_head, by their names alone."""
    modules_to_save: Names = ()
    """Modules that train whole, and are saved whole with the adapters: embed_tokens, lm_head, norms
    or linear layers, or all that is in a larger one (mlp, layers.3), by the end of their names, as
    PEFT has it. Of what is one matrix here (q_proj, k_proj and v_proj; gate_proj and up_proj) all
    or none."""
    ensure_weight_tying: bool = False
    """Whether a tied embedding stays tied where `modules_to_save` names it. Otherwise, as in PEFT,
    embedding and output projection become two matrices as soon as one of them is adapted or
    trained: the model is untied (`model.tied_embeddings`)."""
    seed: Count = 0
    """Where the adapters' first weights come from, together with the recipe's seed."""

    def rank_of(self, name: str) -> int:
        """The rank of the adapter beside the module of this full name."""
        return _of_first(self.rank_pattern, name, self.rank)

    def alpha_of(self, name: str) -> float:
        """The alpha of that adapter, the default resolved."""
        alpha = self.alpha if self.alpha is not None else 2.0 * self.rank_of(name)
        return _of_first(self.alpha_pattern, name, alpha)

    def scale_of(self, name: str) -> float:
        """What that adapter's output is multiplied by."""
        rank = self.rank_of(name)
        return self.alpha_of(name) / (math.sqrt(rank) if self.rslora else rank)

    def adapts(self, name: str) -> bool:
        """Whether the module of this full name gets an adapter."""
        return any(matches(target, name) for target in self.targets)

    def saves(self, name: str) -> bool:
        """Whether the module of this full name trains whole."""
        return any(means_whole(saved, name) for saved in self.modules_to_save)

    def unties(self, model: "ModelSection") -> bool:
        """Whether this makes two matrices of the model's tied embedding."""
        touched = any(self.adapts(name) or self.saves(name) for name in TABLES)
        return model.tied_embeddings and touched and not self.ensure_weight_tying

    def model_of(self, base: "ModelSection") -> "ModelSection":
        """The base's model as it trains with the adapters: untied where they untie it."""
        return base.model_copy(update={"tied_embeddings": False}) if self.unties(base) else base


def matches(target: str, name: str) -> bool:
    """Whether a target of `lora.targets` means the module of this full name."""
    if target in (name, name.rpartition(".")[2]):
        return True
    return name not in TABLES and fnmatch.fnmatchcase(name, target)


def means_whole(saved: str, name: str) -> bool:
    """Whether an entry of `modules_to_save` means the module of this full name: as PEFT has it, by
    the end of its name, or of that of a module that it is in (mlp, layers.3).
    """
    parts = name.split(".")
    return any(".".join(parts[:count]).endswith(saved) for count in range(1, len(parts) + 1))


def _of_first(patterns: Mapping[str, _T], name: str, otherwise: _T) -> _T:
    return next((value for key, value in patterns.items() if matches(key, name)), otherwise)


def saved_modules(lora: LoraSection, model: "ModelSection") -> frozenset[str]:
    """Our global names of the modules that train whole; `model`: untied where `lora` unties it."""
    return frozenset(ours for ours, names in modules(model) if any(map(lora.saves, names)))


def adapter_shapes(lora: LoraSection, model: "ModelSection") -> Iterator[tuple[str, int, int, int]]:
    """(full name, rank, inputs, outputs) of every adapter; no vocabulary counts as 0 rows."""
    linears = {part: linear for linear in block_linears(model) for part in linear.parts}
    for name in (EMBEDDING, *linear_names(model.layers), HEAD):
        if not lora.adapts(name):
            continue
        if name in TABLES:
            ends = (model.vocab or 0, model.hidden)
            inputs, outputs = ends if name == EMBEDDING else ends[::-1]
        else:
            part = name.rpartition(".")[2]
            outputs, inputs = linears[part].part_shape(part)
        yield name, lora.rank_of(name), inputs, outputs


def check_lora(recipe: "Recipe") -> None:
    """Raise RecipeError where `lora` means nothing, or contradicts the rest."""
    lora = recipe.lora
    assert lora is not None
    if recipe.init_from is None:
        raise RecipeError(
            "lora: adapts the weights of a base, and init_from names none; set init_from to a"
            " checkpoint"
        )
    names = [*linear_names(recipe.model.layers), *TABLES]
    if not lora.targets:
        raise RecipeError("lora.targets: is empty; name linear layers, such as q_proj")
    _check_named("lora.targets", lora.targets, names)
    adapted = [name for name in names if lora.adapts(name)]
    for key in ("rank_pattern", "alpha_pattern"):
        _check_named(f"lora.{key}", getattr(lora, key), adapted)
    _check_saved(lora, recipe.model)
    if lora.modules_to_save and recipe.preference.reference == "base":
        raise RecipeError(
            "preference.reference: base is the frozen base, of which lora.modules_to_save trains"
            " parts; use preference.reference=stored"
        )
    if recipe.kernels.loss == "fused" and lora.adapts(HEAD):
        raise RecipeError(
            "kernels.loss: fused makes no logits, to which an adapter of lm_head adds; use"
            " kernels.loss=auto, or leave lm_head out of lora.targets"
        )


def _check_named(key: str, targets: Iterable[str], names: list[str]) -> None:
    short = list(dict.fromkeys(name.rpartition(".")[2] for name in names))
    for target in targets:
        if not any(matches(target, name) for name in names):
            close = difflib.get_close_matches(target, short, n=1)
            mend = f"did you mean {close[0]}?" if close else f"there are {', '.join(short)}"
            raise RecipeError(f"{key}: {target} matches no linear layer; {mend}")


def _check_saved(lora: LoraSection, model: "ModelSection") -> None:
    model = lora.model_of(model)
    parts = [names for _ours, names in modules(model)]
    known = [name for names in parts for name in names]
    adaptable = {*linear_names(model.layers), *TABLES}  # no norm gets an adapter
    for saved in lora.modules_to_save:
        if not any(means_whole(saved, name) for name in known):
            short = list(dict.fromkeys(name.rpartition(".")[2] for name in known))
            raise RecipeError(
                f"lora.modules_to_save: {saved} is the end of no module's name; there are"
                f" {', '.join(short)}"
            )
    for names in parts:
        chosen = [name for name in names if lora.saves(name)]
        both = [name for name in chosen if name in adaptable and lora.adapts(name)]
        if both:
            raise RecipeError(
                f"lora.modules_to_save: {both[0]} has an adapter by lora.targets too; name it in"
                " one of them"
            )
        if chosen and len(chosen) < len(names) and names[0] not in TABLES:
            others = " and ".join(name.rpartition(".")[2] for name in names if name not in chosen)
            raise RecipeError(
                f"lora.modules_to_save: {chosen[0]} is one matrix here with {others}; name all of"
                " them, or none"
            )
    if model.tied_embeddings and any(lora.adapts(name) for name in TABLES):
        raise RecipeError(
            "lora.ensure_weight_tying: adapters on embed_tokens or lm_head cannot be tied; train"
            " the embedding whole (lora.modules_to_save), or leave ensure_weight_tying out"
        )
