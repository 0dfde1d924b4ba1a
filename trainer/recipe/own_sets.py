"""The sets of a run's own samples as entries of its mixture, `run://NAME`, and where they lie."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import RecipeError
from trainer.recipe.checkpoint import AVERAGE
from trainer.recipe.own_samples import OWN_SETS, OwnSamplesSection, check_section

if TYPE_CHECKING:
    from trainer.recipe.recipe import Recipe

OWN = "run://"
"""What an entry of the mixture begins with that names a set of the run's own samples. Behind the
set's name and "?key=" stand, once a run begins, hex digits that follow from what it asks."""


def own_set_of(corpus: str) -> str | None:
    """The name of the run's own set that an entry of the mixture names; None for any other."""
    name = corpus.removeprefix(OWN).partition("?")[0]
    return name if corpus.startswith(OWN) and name in OWN_SETS else None


def own_sections(recipe: "Recipe") -> dict[str, OwnSamplesSection]:
    """The sections by which the run's own model is asked, by their names; mostly none."""
    sections = {name: getattr(recipe.conversations, name) for name in OWN_SETS}
    return {name: section for name, section in sections.items() if section.asks}


def asks_its_base(recipe: "Recipe") -> bool:
    """Whether a recipe is none without the model of `init_from`, which it asks questions."""
    return recipe.stage_traits.asks or bool(own_sections(recipe))


def own_folder(run: Path, name: str) -> Path:
    """The folder of a run's own set; of an average's run, RUN/average, that of the run itself."""
    return (run.parent if run.name == AVERAGE and not (run / name).exists() else run) / name


def with_own_entries(keys: Any) -> Any:
    """A recipe's nested keys with an entry of the mixture for each of the run's own sets.

    Its weight is the section's, or where that says none, what an entry that names the set says.
    What is no recipe yet is left as it is, for the validation to find.
    """
    if not isinstance(keys, Mapping):
        return keys
    conversations, data = keys.get("conversations"), keys.get("data")
    mixture = data.get("mixture") if isinstance(data, Mapping) else ()
    if not isinstance(conversations, Mapping) or not isinstance(mixture, list | tuple | None):
        return keys
    entries, weighed = list(mixture or ()), dict[str, Any]()
    for name in OWN_SETS:
        section = conversations.get(name)
        if not isinstance(section, Mapping):
            continue
        if not section.get("questions") and not section.get("corpora"):
            continue
        places = [number for number, entry in enumerate(entries) if _names(entry, name)]
        entry = entries[places[0]] if places else {}
        weight = section.get("weight", entry.get("weight", OwnSamplesSection().weight))
        weighed[name] = {**section, "weight": weight}
        if places:
            entries[places[0]] = {**entry, "weight": weight}
        else:
            entries.append({"corpus": f"{OWN}{name}", "weight": weight})
    if not weighed:
        return keys
    keys = {**keys, "conversations": {**conversations, **weighed}}
    return {**keys, "data": {**(data or {}), "mixture": entries}}


def _names(entry: Any, name: str) -> bool:
    corpus = entry.get("corpus") if isinstance(entry, Mapping) else None
    return isinstance(corpus, str) and own_set_of(corpus) == name


def with_keys(recipe: "Recipe", keys: Mapping[str, str]) -> "Recipe":
    """The recipe, the entries of its own sets with keys that follow from what they ask, by name."""
    entries = [
        entry
        if (name := own_set_of(entry.corpus)) is None
        else entry.model_copy(update={"corpus": f"{OWN}{name}?key={keys[name]}"})
        for entry in recipe.data.mixture
    ]
    data = recipe.data.model_copy(update={"mixture": tuple(entries)})
    return recipe.model_copy(update={"data": data})


def own_key_of(recipe: "Recipe", name: str) -> str:
    """The key in the entry of the run's own set of this name; empty where it has none yet."""
    corpora = [entry.corpus for entry in recipe.data.mixture]
    found = next((one for one in corpora if own_set_of(one) == name), "")
    return found.partition("?key=")[2]


def without_own_entries(recipe: "Recipe") -> "Recipe":
    """The recipe as it is read before its own sets are made; not validated."""
    entries = [entry for entry in recipe.data.mixture if own_set_of(entry.corpus) is None]
    data = recipe.data.model_copy(update={"mixture": tuple(entries)})
    return recipe.model_copy(update={"data": data})


def check_own_samples(recipe: "Recipe") -> None:
    """Raise RecipeError where a set of the model's own samples does not fit the recipe."""
    for name in OWN_SETS:
        check_section(recipe, name)
    asked = own_sections(recipe)
    for number, entry in enumerate(recipe.data.mixture):
        if entry.corpus.startswith(OWN) and own_set_of(entry.corpus) not in asked:
            raise RecipeError(
                f"data.mixture.{number}.corpus: {entry.corpus} names no set of this run: leave it"
                f" out, or set {' or '.join(f'conversations.{name}' for name in OWN_SETS)}"
            )
