"""Whether two checkpoints mean the same by the same token ids."""

import json
from typing import Any

import tokenizers

from trainer.data.tokenizer import MAIN_FILE, TEMPLATE_FILE, Tokenizer

_DECIDES_IDS = ("normalizer", "pre_tokenizer")


def vocabulary_difference(known: Tokenizer, grown: Tokenizer) -> str | None:
    """The first thing by which two tokenizers give a text other ids, in words; None: nothing.

    `grown` may have tokens that `known` has not, in places where that has none.
    """
    if known.fingerprint == grown.fingerprint:
        return None
    for number in range(known.size):
        name, other = known.name_of(number), grown.name_of(number)
        if name is not None and name != other:
            return f"token {number} is {name!r} in the one and {other!r} in the other"
    one, two = _settings(known), _settings(grown)
    for key in _DECIDES_IDS:
        if one[key] != two[key]:
            return f"the {key} of their {MAIN_FILE} differs"
    for key in sorted({*one["model"], *two["model"]} - {"vocab"}):
        if one["model"].get(key) != two["model"].get(key):
            return f"{key} of the model in their {MAIN_FILE} differs"
    added = {token["id"]: token for token in two["added_tokens"]}
    for token in one["added_tokens"]:
        if token != added.get(token["id"]):
            return f"the added token {token['content']!r} is read in two ways"
    return None


def what_else_differs(ours: Tokenizer, other: Tokenizer) -> list[str]:
    """What two tokenizers with the same ids do not share, in words: `ours` has the say."""
    found = []
    if ours.chat_template != other.chat_template:
        found.append(f"the chat template ({TEMPLATE_FILE})")
    if ours.ends != other.ends:
        found.append("the tokens that end a text")
    if ours.start != other.start:
        found.append("the tokens that begin a text")
    return found


def _settings(tokenizer: Tokenizer) -> dict[str, Any]:
    """tokenizer.json as the library writes it now, whichever release wrote the file."""
    backend = tokenizers.Tokenizer.from_str(tokenizer.files[MAIN_FILE].decode("utf-8"))
    settings: dict[str, Any] = json.loads(backend.to_str())
    return settings
