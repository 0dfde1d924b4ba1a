"""Search decoded documents for a passage: tokens decoded in bulk, case and white space ignored."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import tokenizers

from trainer.data.tokenizer import MAIN_FILE

LEAST_RUN_WORDS = 8
CONTEXT_CHARACTERS = 160
BEFORE_CHARACTERS = 40
FINAL_SIGMA, SIGMA = "\u03c2", "\u03c3"
WORD = re.compile(r"\S+")
ASCII_WORD = re.compile(r"[!-~]+")
# The only letters outside ASCII whose lower case holds an ASCII letter: the Kelvin sign, and I
# with a dot.
LETTERS_LOWERED_TO_ASCII = ("\u212a".encode(), "\u0130".encode())


@dataclass(frozen=True, slots=True)
class PassageMatch:
    """The first match of a passage, or of part of it, in one document.

    `document`: its index among those searched; `position`: characters into its text, from 0;
    `occurrences`: how often it contains the whole passage (1 for a part); `run_words`: the number
    of the passage's words matched in a row, None for a whole match; `context`: the text around it,
    white space squeezed.
    """

    document: int
    position: int
    occurrences: int
    run_words: int | None
    context: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The texts of several documents as UTF-8, concatenated.

    Document i is `data[starts[i]:starts[i + 1]]`; `starts`: int64 [documents + 1].
    """

    data: bytes
    starts: np.ndarray

    def text(self, document: int) -> str:
        """The text of a document; bytes that are not UTF-8 become U+FFFD."""
        first, last = self.starts[document : document + 2].tolist()
        return self.data[first:last].decode("utf-8", "replace")


def bulk_decoder(files: dict[str, bytes]) -> Callable[[Sequence[np.ndarray]], Decoded]:
    """A function that decodes a batch of documents (arrays of ids) with a tokenizer.

    `files`: the tokenizer's Hugging Face files by name. A byte-level vocabulary is a table from id
    to bytes, and a text the concatenation of its tokens' bytes, which numpy gathers many times
    faster than `tokenizers` decodes. The table is used only if it agrees with `tokenizers` on every
    single id; all other tokenizers decode with `tokenizers`.
    """
    backend = tokenizers.Tokenizer.from_str(files[MAIN_FILE].decode("utf-8"))

    def decode_one_by_one(documents: Sequence[np.ndarray]) -> Decoded:
        ids = [document.tolist() for document in documents]
        texts = [
            text.encode("utf-8") for text in backend.decode_batch(ids, skip_special_tokens=False)
        ]
        return Decoded(b"".join(texts), _starts([len(text) for text in texts]))

    table = _token_bytes(backend, json.loads(files[MAIN_FILE]).get("decoder"))
    return decode_one_by_one if table is None else _table_decoder(table)


def _token_bytes(backend: tokenizers.Tokenizer, decoder: object) -> list[bytes] | None:
    """The bytes of each id; None where texts are not the concatenation of their tokens' bytes."""
    if not isinstance(decoder, dict) or decoder.get("type") != "ByteLevel":
        return None
    of_character = _bytes_of_characters()
    vocabulary = backend.get_vocab(with_added_tokens=True)
    table = [b""] * (max(vocabulary.values()) + 1)
    for token, number in vocabulary.items():
        try:
            table[number] = bytes(of_character[character] for character in token)
        except KeyError:
            table[number] = token.encode("utf-8")
    decoded = backend.decode_batch([[n] for n in range(len(table))], skip_special_tokens=False)
    same = all(
        ours.decode("utf-8", "replace") == theirs
        for ours, theirs in zip(table, decoded, strict=True)
    )
    return table if same else None


def _bytes_of_characters() -> dict[str, int]:
    """The byte of each character: byte-level BPE writes printing bytes as themselves, others from
    U+0100 on.
    """
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = sorted(set(range(256)) - set(printing))
    return {chr(byte): byte for byte in printing} | {
        chr(256 + number): byte for number, byte in enumerate(others)
    }


def _table_decoder(table: list[bytes]) -> Callable[[Sequence[np.ndarray]], Decoded]:
    sizes = np.array([len(token) for token in table], dtype=np.int32)
    offsets = _starts(sizes)[:-1].astype(np.int32)
    alphabet = np.frombuffer(b"".join(table), dtype=np.uint8)
    longest = int(sizes.max())

    def decode(documents: Sequence[np.ndarray]) -> Decoded:
        ids = np.concatenate(documents)
        # Half the width is twice the speed, and enough for all but a document of gigabytes.
        index = np.dtype(np.int32 if len(ids) * longest < 2**31 else np.int64)
        size = sizes.take(ids)
        ends = np.cumsum(size, dtype=index)
        # Byte k of the result is byte k - (where its token begins) of that token.
        byte_indices = np.repeat(offsets.take(ids) - ends + size, size)
        byte_indices += np.arange(len(byte_indices), dtype=index)
        borders = _starts([len(document) for document in documents])
        starts = np.concatenate([np.zeros(1, dtype=index), ends])[borders]
        return Decoded(alphabet.take(byte_indices).tobytes(), starts.astype(np.int64))

    return decode


def _starts(sizes: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])


def fold(text: str) -> str:
    """The text in lower case, final sigma as sigma: the form that inexact searches compare."""
    return text.lower().replace(FINAL_SIGMA, SIGMA)


def whole(decoded: Decoded, passage: str, exact: bool) -> Iterator[PassageMatch]:
    """A match for each document that contains the whole passage, in order.

    `exact` compares bytes; otherwise case is ignored and any white space equals a space. The
    passage may begin and end inside a word.
    """
    if exact:
        needle = passage.encode("utf-8")
        for document in _holders(decoded.data, decoded.starts, needle):
            text = decoded.text(document)
            yield _match(document, text, text.find(passage), text.count(passage), None)
        return
    joined = " ".join(fold(passage).split())
    for document in _candidates(decoded, joined):
        text = decoded.text(document)
        squeezed = " ".join(fold(text).split())
        found = squeezed.find(joined)
        if found >= 0:
            position = _unsqueezed(text, found)
            yield _match(document, text, position, squeezed.count(joined), None)


def _candidates(decoded: Decoded, joined: str) -> Iterator[int]:
    """The documents that may contain the folded passage: those with all its ASCII words."""
    words = [word.encode() for word in ASCII_WORD.findall(joined)]
    if not words or any(letter in decoded.data for letter in LETTERS_LOWERED_TO_ASCII):
        yield from range(len(decoded.starts) - 1)
        return
    words.sort(key=len, reverse=True)
    data = decoded.data.lower()
    for document in _holders(data, decoded.starts, words[0]):
        first, last = decoded.starts[document : document + 2].tolist()
        if all(data.find(word, first, last) >= 0 for word in words[1:]):
            yield document


def _holders(data: bytes, starts: np.ndarray, needle: bytes) -> Iterator[int]:
    """The documents that contain `needle`, each once, in order."""
    offset = data.find(needle)
    while offset >= 0:
        document = int(np.searchsorted(starts, offset, side="right")) - 1
        end = int(starts[document + 1])
        if offset + len(needle) <= end:
            yield document
            offset = end - 1
        offset = data.find(needle, offset + 1)


def _unsqueezed(text: str, found: int) -> int:
    """The position in `text` of character `found` of its folded, space-squeezed form."""
    offset = 0
    for word in WORD.finditer(text):
        size = len(fold(word.group()))
        if found < offset + size:
            return word.start() + min(found - offset, len(word.group()) - 1)
        offset += size + 1
    raise AssertionError("a match lies inside its text")


def longest_runs(decoded: Decoded, passage: str) -> Iterator[PassageMatch]:
    """A match for each document with at least LEAST_RUN_WORDS words of the passage in a row: its
    first longest run. Words are separated by white space and compared without case.
    """
    words = fold(passage).split()
    numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
    wanted = [numbers[word] for word in words]
    documents = range(len(decoded.starts) - 1)
    found: list[int] = []
    starts = [0]
    for document in documents:
        found.extend(map(numbers.get, fold(decoded.text(document)).split(), repeat(-1)))
        found.append(-1)
        starts.append(len(found))
    numbered = np.array(found, dtype=np.int64)
    for document in _with_known_run(numbered, np.array(starts)):
        length, first = _longest_common_run(
            numbered[starts[document] : starts[document + 1]].tolist(), wanted
        )
        if length >= LEAST_RUN_WORDS:
            text = decoded.text(document)
            position = next(
                word.start() for n, word in enumerate(WORD.finditer(text)) if n == first
            )
            yield _match(document, text, position, 1, length)


def _with_known_run(numbered: np.ndarray, starts: np.ndarray) -> list[int]:
    """The documents with LEAST_RUN_WORDS words in a row that all occur somewhere in the passage.

    `numbered`: int64, each document's words as indices into the passage's (-1: not among them) and
    a closing -1; `starts`: where each document begins in it.
    """
    borders = np.flatnonzero(numbered < 0)
    gaps = np.diff(borders, prepend=-1) - 1
    long = borders[gaps >= LEAST_RUN_WORDS]
    return np.unique(np.searchsorted(starts, long, side="right") - 1).tolist()


def _longest_common_run(words: list[int], wanted: list[int]) -> tuple[int, int]:
    """Length of the longest run of words common to both, and its first start in `words`."""
    positions: dict[int, list[int]] = {}
    for position, word in enumerate(wanted):
        positions.setdefault(word, []).append(position)
    best, start = 0, 0
    ending: dict[int, int] = {}
    for number, word in enumerate(words):
        ending = {p: ending.get(p - 1, 0) + 1 for p in positions.get(word, ())}
        longest = max(ending.values(), default=0)
        if longest > best:
            best, start = longest, number - longest + 1
    return best, start


def _match(
    document: int, text: str, position: int, occurrences: int, run: int | None
) -> PassageMatch:
    first = max(position - BEFORE_CHARACTERS, 0)
    context = " ".join(text[first : first + CONTEXT_CHARACTERS].split())
    return PassageMatch(document, position, occurrences, run, context)
