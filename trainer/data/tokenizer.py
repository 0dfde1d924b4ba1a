"""The tokenizer: a byte-level BPE trained on the corpus, or any tokenizer in the Hugging Face
format.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from trainer.data.remote.place import Url, place
from trainer.errors import DataError, RecipeError
from trainer.recipe.data import RemoteSection

END_OF_TEXT = "<|endoftext|>"
SMALLEST_VOCABULARY = 257
MAIN_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
OTHER_FILES = ("special_tokens_map.json", "added_tokens.json", "chat_template.jinja")


class Tokenizer:
    """Text to ids and back. What is saved is, byte for byte, what was loaded or trained.

    Special tokens are never read out of a text: a document that spells `<|endoftext|>` gets the ids
    of those characters, so that no text can forge a document's end.
    """

    def __init__(self, files: dict[str, bytes], where: str):
        self._files = files
        try:
            backend = tokenizers.Tokenizer.from_str(files[MAIN_FILE].decode("utf-8"))
        except Exception as error:  # tokenizers raises bare Exception
            reason = " ".join(str(error).split())
            raise DataError(f"{where}/{MAIN_FILE} is not a tokenizer: {reason}") from None
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self._backend = backend
        self.end_of_text: int = _end_of_text(backend, files.get(CONFIG_FILE), where)
        self.fingerprint: str = hashlib.sha256(files[MAIN_FILE]).hexdigest()

    @cached_property
    def size(self) -> int:
        """One more than the largest id."""
        return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without any special token."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of several texts, encoded on every core."""
        return [
            encoding.ids
            for encoding in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        ]

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD."""
        return str(self._backend.decode(list(ids), skip_special_tokens=skip_special))

    def save(self, folder: str | Path) -> None:
        """Write the Hugging Face files into `folder`, tokenizer.json last and each one whole or
        not at all.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(self._files, key=lambda name: name == MAIN_FILE):
            temporary = folder / f"{name}.{os.getpid()}.tmp"
            with temporary.open("wb") as file:
                file.write(self._files[name])
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(folder / name)

    @property
    def files(self) -> dict[str, bytes]:
        """The Hugging Face files by name, to be kept with a checkpoint."""
        return dict(self._files)


def load_tokenizer(folder: str | Path, remote: RemoteSection | None = None) -> Tokenizer:
    """Read a Hugging Face tokenizer folder; only `tokenizers` is imported, not transformers.

    One at a URL is fetched as `remote` says. Raises DataError when tokenizer.json is missing or
    damaged, when no token ends a document, or when it cannot be fetched.
    """
    where = place(folder)
    if isinstance(where, Url):
        return Tokenizer(_fetch(where, remote or RemoteSection()), where.shown)
    folder, files = where, {}
    try:
        for name in (MAIN_FILE, CONFIG_FILE, *OTHER_FILES):
            if (folder / name).is_file():
                files[name] = (folder / name).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the tokenizer {folder}: {error.strerror or error}") from None
    if MAIN_FILE not in files:
        raise DataError(
            f"no {MAIN_FILE} in {folder}: give the folder of a Hugging Face tokenizer that has one"
        )
    return Tokenizer(files, str(folder))


def _fetch(folder: Url, remote: RemoteSection) -> dict[str, bytes]:
    from trainer.data.remote.storage import Absent
    from trainer.data.remote.transfer import Attempts, read_whole

    attempts = Attempts(remote)
    files = {MAIN_FILE: read_whole(folder / MAIN_FILE, attempts)}
    for name in (CONFIG_FILE, *OTHER_FILES):
        with suppress(Absent):
            files[name] = read_whole(folder / name, attempts)
    return files


def train_tokenizer(texts: Iterable[str], vocab: int) -> Tokenizer:
    """Train a byte-level BPE of at most `vocab` tokens; the same texts in the same order give the
    same bytes.

    Every text can be encoded and comes back exactly: the alphabet is the 256 bytes, and nothing is
    normalized. `<|endoftext|>` has id 0. Source: Sennrich et al., "Neural machine translation of
    rare words with subword units", 2016; over bytes as in GPT-2. Raises RecipeError for a
    vocabulary that cannot hold the bytes.
    """
    if vocab < SMALLEST_VOCABULARY:
        raise RecipeError(
            f"corpus.vocab is {vocab}: a byte-level vocabulary has at least {SMALLEST_VOCABULARY}"
            " tokens"
        )
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 10**9,
    }
    files = {
        MAIN_FILE: (backend.to_str(pretty=True) + "\n").encode(),
        CONFIG_FILE: (json.dumps(config, indent=2) + "\n").encode(),
    }
    return Tokenizer(files, "the trained tokenizer")


def _end_of_text(backend: tokenizers.Tokenizer, config: bytes | None, where: str) -> int:
    named = None
    if config is not None:
        try:
            content: Any = json.loads(config)
            named = content.get("eos_token")
        except (ValueError, AttributeError) as error:
            raise DataError(f"{where}/{CONFIG_FILE} is damaged: {error}") from None
        if isinstance(named, dict):
            named = named.get("content")
    for token in [named] if named else [END_OF_TEXT, "</s>"]:
        found = backend.token_to_id(token)
        if found is not None:
            return int(found)
    raise DataError(
        f"the tokenizer {where} has no token {named or END_OF_TEXT!r}: name the one that ends a"
        f" document as eos_token in {CONFIG_FILE}"
    )
