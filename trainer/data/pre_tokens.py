"""Encode texts by the ids of the pre-tokens that were met before.

A byte-level tokenizer cuts a text by a regular expression, and each of the pieces (pre-tokens) has
its ids whatever stands beside it. Texts repeat few pieces often: cutting them here and looking the
pieces up takes about a fifth of the time of the tokenizers library, on one core.

The ids are those of the library, or there are none: expressions are read as far as both engines
mean the same by them, and texts as far as both count their characters to the same classes.
"""

import json
import re
import unicodedata
from itertools import chain
from typing import Any

import tokenizers

_LATIN = "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿ"
_MARKS = "\u2013\u2014\u2018\u2019\u201c\u201d\u201e\u2026\u00ab\u00bb"  # dashes, quotation marks
_KNOWN = "".join(map(chr, range(128))) + _LATIN + _MARKS
"""Letters and marks whose category no version of Unicode has changed, and that NFC leaves alone."""
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What ByteLevel cuts by (Radford et al., "Language Models are Unsupervised Multitask Learners",
2019)."""
_PIECES_HELD = 1 << 17
_LONGEST_HELD = 64

_CATEGORY = r"\\p\{(?P<category>[LMNPSZ][a-z]?)\}(?!-[^\]])"
_OUTSIDE = re.compile(
    _CATEGORY + r"|(?P<same>\\[sSrntd]|\\[^\w\s]|\(\?i:['a-z|\[\]]+\)|\(\?:|\(\?[!=]|[)|]"
    r"|(?:[?*+]|\{\d+(?:,\d*)?\})(?![?*+{])|[^\W_]|[ '\"!#%&,/:;<=>@_`~-])|(?P<opens>\[\^?(?!\]))"
)
_INSIDE = re.compile(
    _CATEGORY + r"|(?P<same>\\[sSrntd]|\\[^\w\s]|(?!([&|~-])\3)[^\\\[\]])|(?P<closes>\])"
)


class PreTokenEncoder:
    """Encodes as a tokenizer of the tokenizers library does, without its special start and end.

    `backend` must not change any more. It parses the added tokens that the backend parses.
    """

    def __init__(self, backend: tokenizers.Tokenizer, expressions: list[str]) -> None:
        *self._first, self._last = (re.compile(f"({one})", re.ASCII) for one in expressions)
        self._found = self._last.findall
        self._unknown = re.compile(f"[^{re.escape(_KNOWN)}]").search
        added = backend.get_added_tokens_decoder()
        names = sorted((token.content for token in added.values()), key=len, reverse=True)
        self._split = re.compile(f"({'|'.join(map(re.escape, names)) or '(?!)'})").split
        # Tokens of the text as it is are looked for before those of the normalized text.
        first = all(token.normalized for token in added.values())
        self._parsed = {
            token.content: [number]
            for number, token in added.items()
            if not (token.single_word or token.lstrip or token.rstrip)
            and not (token.special and backend.encode_special_tokens)
            and token.normalized == first
        }
        self._held = _IdsOfPieces(backend.model)

    @classmethod
    def of(cls, backend: tokenizers.Tokenizer) -> "PreTokenEncoder | None":
        """None for a tokenizer of another kind."""
        model = backend.model
        if not isinstance(model, tokenizers.models.BPE) or model.dropout:
            return None
        normalizer, cutter = _state(backend.normalizer), _state(backend.pre_tokenizer)
        if normalizer not in (None, {"type": "NFC"}) or cutter is None:
            return None
        expressions = _expressions(cutter)
        return None if expressions is None else cls(backend, expressions)

    def encode(self, text: str) -> list[int] | None:
        """The ids of a text; None where only the tokenizer itself can tell."""
        if not text.isascii() and self._unknown(text):
            return None
        ids: list[int] = []
        for number, part in enumerate(self._split(text)):
            if number % 2:
                parsed = self._parsed.get(part)
                if parsed is None:
                    return None
                ids += parsed
            elif part:
                ids.extend(chain.from_iterable(map(self._held.__getitem__, self._cut(part))))
        return ids

    def _cut(self, part: str) -> list[str]:
        parts = [part]
        for cut in self._first:
            parts = _isolated(cut, parts)
        pieces = [piece for one in parts for piece in self._found(one)]
        # What stands between two matches is a piece too, and is not among these.
        return pieces if "".join(pieces) == part else _isolated(self._last, parts)


def _isolated(cut: re.Pattern[str], parts: list[str]) -> list[str]:
    """The parts cut into what the expression, a group, matches and what stands between."""
    return [piece for part in parts for piece in cut.split(part) if piece]


class _IdsOfPieces(dict[str, tuple[int, ...]]):
    """The ids of a pre-token, found when it is first met."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._tokenize = model.tokenize
        as_bytes = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        self._as_bytes = as_bytes.pre_tokenize_str

    def __missing__(self, piece: str) -> tuple[int, ...]:
        ((mapped, _),) = self._as_bytes(piece)
        ids = tuple(token.id for token in self._tokenize(mapped))
        if len(piece) <= _LONGEST_HELD:
            if len(self) >= _PIECES_HELD:
                self.clear()
            self[piece] = ids
        return ids


def _state(part: Any) -> Any:
    """What the library saves of a part of a tokenizer; None where there is no such part."""
    return None if part is None else json.loads(part.__getstate__())


def _expressions(cutter: dict[str, Any]) -> list[str] | None:
    """The expressions by which a pre-tokenizer cuts, one after the other; None: other ways too."""
    steps = cutter["pretokenizers"] if cutter["type"] == "Sequence" else [cutter]
    if not steps or steps[-1]["type"] != "ByteLevel" or steps[-1]["add_prefix_space"]:
        return None
    found: list[str | None] = []
    for step in steps[:-1]:
        if step["type"] == "Digits":
            found.append("[0-9]" if step["individual_digits"] else "[0-9]+")
        elif step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
            found.append(_translated(step["pattern"].get("Regex", "")))
        else:
            return None
    if steps[-1]["use_regex"]:
        found.append(_translated(_GPT2))
    whole = [one for one in found if one is not None]
    return whole if whole and len(whole) == len(found) else None


def _translated(expression: str) -> str | None:
    """The expression as `re` reads it, for texts of _KNOWN; None where it may mean another thing.

    Neither engine knows the other's whole language: categories are spelled out, and what only one
    of them has (possessive repeats, sets within sets, anchors, back references) is not read.
    """
    out: list[str] = []
    at, inside = 0, False
    while at < len(expression):
        unit = (_INSIDE if inside else _OUTSIDE).match(expression, at)
        if unit is None:
            return None
        if category := unit["category"]:
            members = [c for c in _KNOWN if unicodedata.category(c).startswith(category)]
            # A category without any member here matches nothing.
            spelled = re.escape("".join(members)) or re.escape("\U0010ffff")
            out.append(spelled if inside else f"[{spelled}]")
        else:
            inside = not inside if unit["same"] is None else inside
            out.append(unit[0])
        at = unit.end()
    translated = "".join(out)
    try:
        return None if inside or re.match(translated, "", re.ASCII) else translated
    except re.error:
        return None
