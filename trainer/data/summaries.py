"""The summary of a docstring: its first sentence, cleaned of markup."""

import re

SHORTEST, LONGEST = 20, 90

_ROLE = re.compile(r":(?:[a-z]+:)?[a-z]+:`([^`]*)`")
_TITLED = re.compile(r"^(.*?)\s*<[^<>]*>$")
_SENTENCE_END = re.compile(r"(?<=[\w)`\"'])\.(?=\s+[A-Z`\"'(]|$)")
_ABBREVIATIONS = ("e.g", "i.e", "etc", "vs", "cf")


def summary_line(docstring: str) -> str | None:
    """The first sentence of its first paragraph, on one line and with a full stop; None where that
    is no sentence of `SHORTEST` to `LONGEST` characters of plain text.

    Roles (:class:`Tensor`) and literals (``x``) become `x`; a summary with a formula, a link, or a
    line of code is none.
    """
    paragraph = " ".join(docstring.strip().split("\n\n", 1)[0].split())
    text = _without_markup(_first_sentence(paragraph)).strip()
    if not text or not text[0].isalnum() or not (text[-1].isalnum() or text[-1] in ")`\"'"):
        return None
    if any(part in text for part in ("::", "->", ">>>", "http", "\\", "|", "<", "--", "==", "***")):
        return None
    if not text.isascii() or text.count("`") % 2 or " " not in text:
        return None
    sentence = f"{text[0].upper()}{text[1:]}."
    return sentence if SHORTEST <= len(sentence) <= LONGEST else None


def _first_sentence(paragraph: str) -> str:
    for end in _SENTENCE_END.finditer(paragraph):
        before = paragraph[: end.start()]
        if not before.endswith(_ABBREVIATIONS):
            return before
    return paragraph


def _without_markup(text: str) -> str:
    text = _ROLE.sub(lambda role: f"`{_target(role[1])}`", text)
    return text.replace("``", "`").replace("**", "")


def _target(text: str) -> str:
    """What a reader sees of a role: its title, or its target without `~` and the path it hides."""
    titled = _TITLED.match(text)
    if titled and titled[1]:
        return titled[1]
    if text.startswith("~"):
        return text.rpartition(".")[2].lstrip("~")
    return text.lstrip("!")
