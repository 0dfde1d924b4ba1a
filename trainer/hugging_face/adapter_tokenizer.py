"""The tokenizer and chat template of an adapter's folder, beside those of its base."""

from pathlib import Path
from typing import Any

from trainer.checkpoint import CheckpointReader
from trainer.checkpoint.adapted import saved_tokenizer
from trainer.data.tokenizer import (
    CONFIG_FILE,
    MAIN_FILE,
    TEMPLATE_FILE,
    Tokenizer,
    listed_tokens,
    load_tokenizer,
)
from trainer.errors import CheckpointError
from trainer.parsing import read_json
from trainer.recipe.model import ModelSection

_ADDED_FILE = "added_tokens.json"


def adapter_tokenizer(folder: Path, base: CheckpointReader, model: ModelSection) -> Tokenizer:
    """The adapter's own tokenizer, or the base's with the adapter's chat template; generation ends
    where the base says. Where tokens that were added to the base are others, that is printed.

    `model`: with the adapter's rows. Raises CheckpointError for the tokenizer of another base, and
    for added tokens without a tokenizer.json.
    """
    own = saved_tokenizer(base)
    if not (folder / MAIN_FILE).is_file():
        return _templated(folder, own)
    files = load_tokenizer(folder).files
    kept = {name: content for name, content in own.files.items() if name not in files}
    generation = {name: kept[name] for name in kept if name.startswith("generation")}
    tokenizer = Tokenizer(files | generation, str(folder))
    assert model.vocab is not None
    if tokenizer.size > model.vocab:
        raise CheckpointError(
            f"{folder}: its tokenizer has {tokenizer.size} tokens, and with this base the embedding"
            f" {model.vocab} rows; it belongs to another"
        )
    _check_same_words(folder, own, tokenizer)
    return tokenizer


def _check_same_words(folder: Path, own: Tokenizer, theirs: Tokenizer) -> None:
    """Refuse a tokenizer in which the base's words have other ids; print added tokens that have."""
    found = {number: name for name, number in theirs.beyond(0).items()}
    added = own.added_tokens
    other = {name: number for name, number in own.beyond(0).items() if found.get(number) != name}
    words = [name for name in other if name not in added]
    if words:
        number = other[words[0]]
        there = f"{found[number]!r}" if number in found else "no token"
        raise CheckpointError(
            f"{folder}: its tokenizer has {there} under id {number}, where the base's has"
            f" {words[0]!r} ({len(words):,} such ids); it belongs to another base"
        )
    if other:
        now = [f"{name} ({found.get(number, 'none')})" for name, number in other.items()]
        print(
            f"{folder}: its tokenizer has other added tokens than the base's under {len(other)}"
            f" ids: {listed_tokens(now)}"
        )


def _templated(folder: Path, own: Tokenizer) -> Tokenizer:
    """The base's tokenizer with the chat template of a folder that has no tokenizer.json."""
    config = _object(folder / CONFIG_FILE)
    described = config.get("added_tokens_decoder") or {}
    named = {one["content"]: int(number) for number, one in described.items()}
    known = own.beyond(0)
    unknown = [
        name
        for name, number in (named | _object(folder / _ADDED_FILE)).items()
        if known.get(name) != number
    ]
    if unknown:
        raise CheckpointError(
            f"{folder}: names tokens that the base has not ({listed_tokens(unknown)}), and holds no"
            f" {MAIN_FILE} of them; load its tokenizer with transformers and save_pretrained there"
        )
    file = folder / TEMPLATE_FILE
    template = file.read_text(encoding="utf-8") if file.is_file() else config.get("chat_template")
    return own.speaking(template) if isinstance(template, str) else own


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = read_json(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}; fetch it again") from None
    return found if isinstance(found, dict) else {}
