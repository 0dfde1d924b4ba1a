"""Tokens that a run adds to its base's tokenizer."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from trainer.data.tokenizer import CONFIG_FILE, MAIN_FILE, Tokenizer, load_tokenizer
from trainer.files import cache_folder
from trainer.recipe.data import RemoteSection

_OLD_FILE = "added_tokens.json"


def with_added_tokens(
    tokenizer: Tokenizer, plain: Sequence[str], special: Sequence[str]
) -> Tokenizer:
    """The tokenizer with more tokens, at transformers' ids; itself if it has them all.

    `plain`: found in any text (transformers' `add_tokens`); `special`: those that only a rendered
    chat template writes (`add_special_tokens`). One that is in the vocabulary keeps its id: it
    becomes an added token, and a special one by `special`; what is special already stays so.
    """
    files = tokenizer.files
    backend = tokenizers.Tokenizer.from_str(files[MAIN_FILE].decode("utf-8"))
    plain = [one for one in plain if one not in tokenizer.added_tokens]
    special = [one for one in special if one not in tokenizer.special_tokens]
    if not plain and not special:
        return tokenizer
    backend.add_tokens(list(plain))
    backend.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in special])
    files[MAIN_FILE] = backend.to_str(pretty=True).encode()
    described = backend.get_added_tokens_decoder()
    new = {*plain, *special}
    added = {one.content: number for number, one in described.items() if one.content in new}
    _extend(files, CONFIG_FILE, "added_tokens_decoder", added, described)
    if _OLD_FILE in files:
        ids = json.loads(files[_OLD_FILE]) | added
        files[_OLD_FILE] = _json(ids)
    return Tokenizer(files, "the tokenizer with added tokens")


def _extend(
    files: dict[str, bytes], name: str, key: str, added: dict[str, int], described: dict[int, Any]
) -> None:
    """Name the added tokens in the list of tokenizer_config.json too, where it has one."""
    config = json.loads(files.get(name, b"{}"))
    if not isinstance(config.get(key), dict):
        return
    flags = ("lstrip", "normalized", "rstrip", "single_word", "special")
    for content, number in added.items():
        token = described[number]
        config[key][str(number)] = {"content": content} | {f: getattr(token, f) for f in flags}
    files[name] = _json(config)


def grown_folder(
    folder: str, plain: Sequence[str], special: Sequence[str], remote: RemoteSection | None = None
) -> str:
    """The folder of a tokenizer with more tokens, in the cache; `folder` itself if it has all."""
    own = load_tokenizer(folder, remote)
    grown = with_added_tokens(own, plain, special)
    return folder if grown is own else str(stored(grown))


def stored(tokenizer: Tokenizer) -> Path:
    """The folder of a tokenizer's files in the cache, written where it is absent."""
    content = hashlib.sha256()
    for name, values in sorted(tokenizer.files.items()):
        content.update(name.encode() + hashlib.sha256(values).digest())
    folder = cache_folder("tokenizers") / content.hexdigest()[:24]
    if not (folder / MAIN_FILE).is_file():
        tokenizer.save(folder)
    return folder


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
