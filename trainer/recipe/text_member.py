"""Where the text of a WebDataset sample stands, as `data.mixture` and `corpus` name it.

The notation is energon's `field_map`: `txt`, `json[text]`, `meta.json[body][0]`, and alternatives
behind commas, of which the first that a sample has is taken.
"""

import re
from dataclasses import dataclass

from trainer.errors import RecipeError

USUAL = "txt, text, json[text]"
"""Where the text is looked for that no recipe names."""
FIELD = "text"
"""The field of a JSON member where none is named."""
JSON = ("json", "jsn")
"""The extensions that WebDataset decodes as JSON, alone or as the last of several."""
LINES = ("jsonl", "ndjson")
"""Extensions of members that hold many documents, which no rule of WebDataset takes apart."""
GZIP = ".gz"
_MEMBER = re.compile(r"([^\[\]\s]+)((?:\[[^\[\]]+\])*)")


@dataclass(frozen=True, slots=True)
class TextMember:
    """The member of a sample that holds its text.

    `extension`: in lower case, all that follows the first dot of the file's own name; `fields`: of
    a JSON member, the keys (or numbers, in a list) that lead to the text; empty: it is the text.
    """

    extension: str
    fields: tuple[str, ...]

    def __str__(self) -> str:
        return self.extension + "".join(f"[{field}]" for field in self.fields)


def text_members(written: str, key: str) -> tuple[TextMember, ...]:
    """The alternatives that a recipe's `key` names, in order; RecipeError for a bad one."""
    return tuple(_member(part.strip(), written, key) for part in re.split("[,;]", written))


def _member(part: str, written: str, key: str) -> TextMember:
    found = _MEMBER.fullmatch(part)
    if not found:
        raise RecipeError(
            f"{key}: {written!r} names no member: write its extension, as txt, or json[text] for a"
            " field of JSON"
        )
    extension = found[1].lower().lstrip(".")
    fields = tuple(re.findall(r"\[([^\[\]]+)\]", found[2]))
    last = extension.removesuffix(GZIP).rpartition(".")[2]
    if last in LINES:
        raise RecipeError(
            f"{key}: a member .{extension} holds several documents, and a sample is one: unpack the"
            " tars, and build a corpus of the files (corpus.source: text)"
        )
    is_json = last in JSON
    if fields and not is_json:
        raise RecipeError(
            f"{key}: {part} names a field, and only JSON has fields: {extension} is taken whole"
        )
    return TextMember(extension, fields or (FIELD,) if is_json else ())
