"""What a set of the run's own samples was made of, and whether that is what is asked now."""

import hashlib
import json
from pathlib import Path
from typing import Any

from trainer.checkpoint.format import MANIFEST
from trainer.conversations.sets import EXAMPLES, MADE_OF
from trainer.corpus.reading.files import list_files
from trainer.errors import DataError
from trainer.recipe import Recipe
from trainer.recipe.own_samples import BANK, FactualitySection, OwnSamplesSection
from trainer.recipe.own_sets import own_key_of, own_sections

RULES = 2
"""Version of what is made of samples: raised when the same samples give other examples."""
READ_BY = ("template", "template_variables", "rewriting", "same_role", "special_tokens", "too_long")
"""Keys of `conversations` that decide which examples its reader uses."""
KEPT = ("base", "rules", "read")
"""Parts of what a set was made of that stay what they were once its run has begun."""


def are_made(recipe: Recipe) -> bool:
    """Whether the run has all of its own sets, of what the recipe asks now."""
    return all(is_made(recipe, name) for name in own_sections(recipe))


def is_made(recipe: Recipe, name: str) -> bool:
    """Whether the run has this set, of these questions, keys and base.

    A run that has begun keeps its set, though it be read otherwise or made by earlier rules. Raises
    DataError where somebody has altered it.
    """
    folder = Path(recipe.run) / name
    try:
        known = json.loads((folder / MADE_OF).read_bytes())
        made_of = dict(known["identity"])
        digest = hashlib.sha256((folder / EXAMPLES).read_bytes()).hexdigest()
    except (OSError, ValueError, TypeError, KeyError):
        return False  # of something else: it is made again
    wanted = identity(recipe, name)
    if any((Path(recipe.run) / "checkpoints").glob("step-*")):
        # A run's base stays what it was, though init_from may be another model by now, or gone.
        wanted = {name: one for name, one in wanted.items() if name not in KEPT}
        wanted |= {name: made_of[name] for name in KEPT if name in made_of}
    # Before there was a key, a set was made as its default says.
    unset = type(own_sections(recipe)[name])().model_dump(mode="json")
    made_of["keys"] = {key: unset[key] for key in wanted["keys"]} | made_of.get("keys", {})
    if made_of != json.loads(json.dumps(wanted)):
        return False
    if known.get("examples_sha256") != digest:
        raise DataError(
            f"{folder / EXAMPLES}: was altered after it was made: delete it, and it is made again"
            f" of the samples; or name a copy in data.mixture, without conversations.{name}"
        )
    return True


def identity(recipe: Recipe, name: str) -> dict[str, Any]:
    """What decides a set: equal for two that are the same."""
    section = own_sections(recipe)[name]
    return {
        "questions": own_key_of(recipe, name),
        # Names of files aside: their content has the key.
        "keys": section.model_dump(mode="json", exclude={"questions", "corpora", "weight"}),
        "system": recipe.conversations.system,
        "kind": recipe.stage_traits.corpora(recipe)[0],
        "seed": recipe.seed,
        "base": base_seal(recipe),
        "rules": RULES,
        "read": {
            "sequence_length": recipe.sequence_length,
            "added_tokens": [recipe.added_tokens, recipe.added_special_tokens],
            "template_file": _content_of(recipe.conversations.template),
            **recipe.conversations.model_dump(mode="json", include=set(READ_BY)),
        },
    }


def _content_of(template: str | None) -> str:
    """What changes with any letter of a template that is a file; empty of any other."""
    if template is None or not Path(template).is_file():
        return ""
    return hashlib.sha256(Path(template).read_bytes()).hexdigest()


def base_seal(recipe: Recipe) -> str:
    """What changes with any bit of the base; empty where it is gone."""
    try:
        return hashlib.sha256((Path(recipe.init_from or "") / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        return ""


def asked_files(section: OwnSamplesSection) -> list[dict[str, Any]]:
    """The files that were asked, as they were then."""
    named = [name for name in section.questions if name != BANK]
    found: list[dict[str, Any]] = [{"file": BANK}] if BANK in section.questions else []
    for file in list_files(named) if named else []:
        about = {"file": file.shown, "bytes": file.bytes}
        local = Path(file.path)
        if local.is_file():
            about["sha256"] = hashlib.sha256(local.read_bytes()).hexdigest()
        found.append(about)
    if isinstance(section, FactualitySection):
        found += [{"corpus": name} for name in section.corpora]
    return found
