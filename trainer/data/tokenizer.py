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

from trainer.data.pre_tokens import PreTokenEncoder
from trainer.data.remote.location import Url, place
from trainer.data.stored_templates import (
    NAMED_TEMPLATES_FOLDER,
    TEMPLATE_FILE,
    stored_named_templates,
    stored_template,
)
from trainer.errors import DataError, RecipeError
from trainer.files import write_whole
from trainer.hub.models import tokenizer_folder
from trainer.hub.names import model_name
from trainer.parsing import read_json
from trainer.recipe.data import RemoteSection

END_OF_TEXT = "<|endoftext|>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
"""ChatML's delimiters of a turn; every trained tokenizer has them, unused until fine-tuning."""
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)
SMALLEST_VOCABULARY = 256 + len(SPECIAL_TOKENS)
MAIN_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
GENERATION_FILE = "generation_config.json"
OTHER_FILES = (
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"),
    *("tokenizer.model", TEMPLATE_FILE, GENERATION_FILE),
)
"""Further files of a Hugging Face model folder: of its tokenizer, chat template and generation."""
_FEW_CORES = 4
"""Up to which one core with looked-up pre-tokens is faster than all of them with the library."""


class Tokenizer:
    """Text to ids and back. What is saved is, byte for byte, what was loaded or trained.

    `files`: the content of the Hugging Face files by name; `where`: the folder, for error messages.
    Special tokens are never parsed out of a text: a document that spells `<|endoftext|>` gets the
    ids of those characters, so that no text can forge a document's end. Raises DataError for a
    damaged file, and when no token ends a document.
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
        config = _json(files, CONFIG_FILE, where)
        self.end_of_text: int = _end_of_text(backend, config, where)
        self.ends: frozenset[int] = _ends(_json(files, GENERATION_FILE, where)) | {self.end_of_text}
        self.named_templates: dict[str, str] = stored_named_templates(files, config, where)
        self.chat_template: str | None = stored_template(files, config, where)
        self.start: tuple[int, ...] = _start(backend, where)
        self.fingerprint: str = hashlib.sha256(files[MAIN_FILE]).hexdigest()

    @cached_property
    def size(self) -> int:
        """The largest id + 1."""
        return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    def has(self, name: str) -> bool:
        """Whether a token of this name is in the vocabulary, added ones included."""
        return self._backend.token_to_id(name) is not None

    def name_of(self, number: int) -> str | None:
        """A token's name as the vocabulary has it; None where no token has that id."""
        name: str | None = self._backend.id_to_token(number)
        return name

    def beyond(self, rows: int) -> dict[str, int]:
        """The ids by name of the tokens that an embedding of so many rows has no row for."""
        names = self._backend.get_vocab(with_added_tokens=True)
        found = [(name, number) for name, number in names.items() if number >= rows]
        return dict(sorted(found, key=lambda one: one[1]))

    def lacks_only_added(self, rows: int) -> bool:
        """Whether every token without a row was added to the vocabulary, and none ends a text.

        transformers loads a tokenizer and a model of that kind; only a text that holds one of these
        tokens fails. Other tokens without a row say that the two belong to different models.
        """
        beyond = set(self.beyond(rows).values())
        needed = {self.end_of_text, *self.start}
        return beyond <= set(self._backend.get_added_tokens_decoder()) and not beyond & needed

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without any special token."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_rendered(self, text: str) -> list[int]:
        """The ids of a text, special tokens parsed: for rendered chat templates, and never for text
        that a user wrote.
        """
        return list(self._reading_special.encode(text, add_special_tokens=False).ids)

    def encode_rendered_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of several rendered texts; on every core, or looked up where those are few."""
        return _encode_batch(self._reading_special, self._rendered_pre_tokens, texts)

    @cached_property
    def _pre_tokens(self) -> PreTokenEncoder | None:
        return PreTokenEncoder.of(self._backend)

    @cached_property
    def _rendered_pre_tokens(self) -> PreTokenEncoder | None:
        return PreTokenEncoder.of(self._reading_special)

    @cached_property
    def _reading_special(self) -> tokenizers.Tokenizer:
        backend = tokenizers.Tokenizer.from_str(self._backend.to_str())
        backend.encode_special_tokens = False
        # It adds special tokens, which are not asked for, and costs a twelfth of the time.
        backend.post_processor = None
        return backend

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """The ids of the special tokens by name."""
        added = self._backend.get_added_tokens_decoder()
        return {token.content: number for number, token in added.items() if token.special}

    @cached_property
    def added_tokens(self) -> dict[str, int]:
        """The ids, by name, of the tokens parsed out of a rendered text, special or not."""
        added = self._backend.get_added_tokens_decoder()
        return {token.content: number for number, token in added.items()}

    @cached_property
    def strips_nothing(self) -> bool:
        """Whether no added token takes the white space beside it."""
        added = self._backend.get_added_tokens_decoder().values()
        return not any(token.lstrip or token.rstrip for token in added)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of several texts; on every core, or looked up where those are few."""
        return _encode_batch(self._backend, self._pre_tokens, texts)

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD."""
        return str(self._backend.decode(list(ids), skip_special_tokens=skip_special))

    def decode_behind(self, left: Sequence[int], ids: Sequence[int]) -> str:
        """The text that ids add to those on their left.

        Decoders of SentencePiece's kind take the space off a text's first word: ids that go on with
        a text are no such first word.
        """
        before, whole = self.decode(left), self.decode([*left, *ids])
        return whole[len(before) :] if whole.startswith(before) else self.decode(ids)

    @property
    def hashes(self) -> dict[str, str]:
        """The sha256 of each of its files, in hex, by name."""
        return {name: hashlib.sha256(file).hexdigest() for name, file in self._files.items()}

    def save(self, folder: str | Path) -> None:
        """Write the Hugging Face files into `folder`, tokenizer.json last and each one whole or
        not at all.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(self._files, key=lambda name: name == MAIN_FILE):
            (folder / name).parent.mkdir(exist_ok=True)
            write_whole(folder / name, self._files[name])

    def speaking(self, template: str, turn_end: int | None = None) -> "Tokenizer":
        """A copy with this chat template; `turn_end`: a further id at which generation stops.

        Named templates stay beside the tokenizer's own one; beside another they would render what
        it does not. Raises DataError for a named one whose name is no file's.
        """
        folder = f"{NAMED_TEMPLATES_FOLDER}/"
        files = {name: it for name, it in self._files.items() if not name.startswith(folder)}
        files[TEMPLATE_FILE] = template.encode()
        if template == self.chat_template:
            # A file of the default one hides a list in the config.
            for name, text in self.named_templates.items():
                if Path(name).name != name:
                    raise DataError(f"{CONFIG_FILE}: a chat template cannot be named {name!r}")
                files[f"{folder}{name}.jinja"] = text.encode()
        elif self.named_templates:
            config = _json(files, CONFIG_FILE, "") or {}
            config.pop("chat_template", None)
            files[CONFIG_FILE] = (json.dumps(config, indent=2) + "\n").encode()
        if turn_end is not None and turn_end not in self.ends:
            config = _json(files, GENERATION_FILE, "") or {"bos_token_id": None}
            config |= {"eos_token_id": [*sorted(self.ends), turn_end]}
            files[GENERATION_FILE] = (json.dumps(config, indent=2) + "\n").encode()
        return Tokenizer(files, "the tokenizer with a chat template")

    @property
    def files(self) -> dict[str, bytes]:
        """The content of the Hugging Face files by name, to save with a checkpoint."""
        return dict(self._files)


def listed_tokens(names: Sequence[str]) -> str:
    """The first few of some tokens' names, for a message."""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def load_tokenizer(folder: str | Path, remote: RemoteSection | None = None) -> Tokenizer:
    """Read a Hugging Face tokenizer folder; only `tokenizers` is imported, not transformers.

    `folder`: or its URL; or, where there is none of that name, `org/name` on the Hugging Face hub.
    `remote`: the retries and timeouts for a folder at a URL. Raises DataError when tokenizer.json
    is missing or damaged, when no token ends a document, or when it cannot be fetched.
    """
    where = tokenizer_folder(folder) if model_name(folder) else place(folder)
    if isinstance(where, Url):
        return Tokenizer(_fetch(where, remote or RemoteSection()), where.shown)
    folder, files = where, {}
    try:
        for name in (MAIN_FILE, CONFIG_FILE, *OTHER_FILES):
            if (folder / name).is_file():
                files[name] = (folder / name).read_bytes()
        for file in sorted((folder / NAMED_TEMPLATES_FOLDER).glob("*.jinja")):
            files[f"{NAMED_TEMPLATES_FOLDER}/{file.name}"] = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the tokenizer {folder}: {error.strerror or error}") from None
    if MAIN_FILE not in files:
        # A checkpoint or a run of ours has its tokenizer further inside.
        inside = [folder / "tokenizer", *sorted(folder.glob("checkpoints/*/tokenizer"))[-1:]]
        found = [str(one) for one in inside if (one / MAIN_FILE).is_file()]
        mend = found[-1] if found else "the folder of a Hugging Face tokenizer that has one"
        raise DataError(f"no {MAIN_FILE} in {folder}: give {mend}")
    return Tokenizer(files, str(folder))


def _encode_batch(
    backend: tokenizers.Tokenizer, pre_tokens: PreTokenEncoder | None, texts: Sequence[str]
) -> list[list[int]]:
    """The ids of several texts, by looking their pre-tokens up or by the library on every core."""
    ids: list[list[int] | None] = [None] * len(texts)
    if pre_tokens is not None and _cores() <= _FEW_CORES:
        ids = [pre_tokens.encode(text) for text in texts]
    left = [text for text, found in zip(texts, ids, strict=True) if found is None]
    encoded = iter(backend.encode_batch_fast(left, add_special_tokens=False) if left else ())
    return [next(encoded).ids if found is None else found for found in ids]


def _cores() -> int:
    """How many cores the library would encode on."""
    set_by_user = os.environ.get("RAYON_NUM_THREADS", "")
    number = int(set_by_user) if set_by_user.isdecimal() else 0
    return number or len(os.sched_getaffinity(0))


def _fetch(folder: Url, remote: RemoteSection) -> dict[str, bytes]:
    from trainer.data.remote.storage import Absent
    from trainer.data.remote.transfer import Attempts, read_whole

    attempts = Attempts(remote)
    files = {MAIN_FILE: read_whole(folder / MAIN_FILE, attempts)}
    # A server need not list a folder: of the named templates the one for tools is asked for.
    for name in (CONFIG_FILE, *OTHER_FILES, f"{NAMED_TEMPLATES_FOLDER}/tool_use.jinja"):
        with suppress(Absent):
            files[name] = read_whole(folder / name, attempts)
    return files


def train_tokenizer(texts: Iterable[str], vocab: int) -> Tokenizer:
    """Train a byte-level BPE of at most `vocab` tokens; the same texts in the same order give the
    same bytes.

    Every text can be encoded and comes back exactly: the alphabet is the 256 bytes, and nothing is
    normalized. The SPECIAL_TOKENS have ids 0, 1 and 2. Source: Sennrich et al., "Neural machine
    translation of rare words with subword units", 2016; over bytes as in GPT-2. Raises RecipeError
    for a vocabulary that cannot hold the bytes.
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
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    # Documents begin with an end of text, so prompts do too; `encode` never adds it.
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A",
        pair=f"{END_OF_TEXT} $A $B:1",
        special_tokens=[(END_OF_TEXT, backend.token_to_id(END_OF_TEXT))],
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 10**9,
    }
    files = {
        MAIN_FILE: (backend.to_str(pretty=True) + "\n").encode(),
        CONFIG_FILE: (json.dumps(config, indent=2) + "\n").encode(),
    }
    return Tokenizer(files, "the trained tokenizer")


def _json(files: dict[str, bytes], name: str, where: str) -> dict[str, Any] | None:
    """A file's object, None where there is no such file."""
    if name not in files:
        return None
    try:
        content = read_json(files[name])
    except ValueError as error:
        raise DataError(f"{where}/{name} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{where}/{name} is damaged: it holds no object")
    return content


def _end_of_text(backend: tokenizers.Tokenizer, config: dict[str, Any] | None, where: str) -> int:
    named = (config or {}).get("eos_token")
    if isinstance(named, dict):
        named = named.get("content")
    for token in [named] if named else [END_OF_TEXT, "</s>"]:
        try:
            found = backend.token_to_id(token)
        except (TypeError, UnicodeError):
            said = f"its eos_token is {named!r}, and no text"
            raise DataError(f"{where}/{CONFIG_FILE} is damaged: {said}") from None
        if found is not None:
            return int(found)
    raise DataError(
        f"the tokenizer {where} has no token {named or END_OF_TEXT!r}: name the one that ends a"
        f" document as eos_token in {CONFIG_FILE}"
    )


def _ends(generation: dict[str, Any] | None) -> frozenset[int]:
    """The ids at which a generation config stops generating."""
    named = (generation or {}).get("eos_token_id")
    numbers = named if isinstance(named, list) else [named]
    return frozenset(one for one in numbers if isinstance(one, int) and 0 <= one < 2**32)


def _start(backend: tokenizers.Tokenizer, where: str) -> tuple[int, ...]:
    """The ids that the tokenizer prepends to a text, such as a begin of text."""
    try:
        plain = backend.encode("a", add_special_tokens=False).ids
        whole = backend.encode("a", add_special_tokens=True).ids
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            reason = " ".join(str(error).split())
            raise DataError(f"{where}/{MAIN_FILE} cannot encode a text: {reason}") from None
        raise
    if not plain or plain[0] not in whole:
        return ()
    return tuple(whole[: whole.index(plain[0])])
