"""A model's name and licence: keys of a GGUF file, and the head of a model card in Markdown."""

import yaml

from trainer.gguf.metadata import Metadata
from trainer.parsing import read_yaml

CARD = "README.md"
"""The file of a model card, as Hugging Face folders have it."""
_NAME = "model_name"
_KEYS = {
    _NAME: "general.name",
    "license": "general.license",
    "license_name": "general.license.name",
    "license_link": "general.license.link",
}
"""The keys of GGUF by those of a model card."""


def card_of(metadata: Metadata) -> dict[str, bytes]:
    """The model card, by its file's name, that says what a file says; {} where it says nothing."""
    found = {ours: metadata.value(theirs) for ours, theirs in _KEYS.items()}
    said = {ours: value for ours, value in found.items() if isinstance(value, str) and value}
    if not said:
        return {}
    head = yaml.safe_dump(said, sort_keys=False, allow_unicode=True)
    return {CARD: f"---\n{head}---\n".encode()}


def card_keys(card: bytes, trained: bool) -> dict[str, str]:
    """What a card of `card_of` says, as metadata; of a model that was `trained` since, not its
    name.
    """
    # What a value holds is indented there, if it begins a line.
    head = card.decode().removeprefix("---\n").partition("\n---\n")[0]
    said = read_yaml(head)
    return {_KEYS[ours]: value for ours, value in said.items() if not (trained and ours == _NAME)}
