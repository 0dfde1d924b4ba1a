"""Language identification by py3langid, whose model is part of its package."""

import difflib
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

from trainer.corpus.rules.prose_language import ENGLISH
from trainer.corpus.rules.rule import Judgement, RuleDescription, dropped, kept
from trainer.errors import RecipeError
from trainer.recipe.curation import LanguageRule

LOOKED_AT = 1000
"""Characters that are classified, since the model takes each byte in Python. Of 1,710 longer
docstrings all were classified as by their whole texts; with 600 characters, 6 were not."""
SAMPLES = 4
"""The number of evenly spaced samples of the text that they come from, so that a heading, a licence
or a quotation does not decide."""
LEAST_PROBABILITY = 0.5
MEMBERS = {
    **{"ar": ("ary", "arz"), "ku": ("sdh",), "lv": ("ltg",), "no": ("nn",), "uz": ("uzs",)},
    **{"zh": ("wuu", "yue")},
}
"""Of languages that the model knows those that are part of another one. Traditional Chinese is
found to be Cantonese every third time, standard Arabic Moroccan every tenth. Source: ISO 639-3,
macrolanguages; without Indonesian, which few mean by Malay.
"""
NO_LANGUAGE = "zxx"
"""ISO 639-2, no linguistic content: also a class of the model, for code and numbers."""


@dataclass(frozen=True)
class Language:
    """Passes documents whose language is one of `keep` with a probability of at least `score`.

    A language of MEMBERS is kept with the one that it is part of. Probabilities are over all of the
    model's languages. A text without letters is "zxx" with probability 1. Raises RecipeError for a
    code that the model does not know, and for an empty `keep`.
    """

    section: LanguageRule
    name: str = "language"

    def __post_init__(self) -> None:
        if not self.section.keep:
            raise RecipeError(
                "corpus.rules.language.keep: names no language; name some (en), or set"
                " corpus.rules.language=null to keep all"
            )
        # Checked in this process, once, before tasks start.
        codes = sorted(_model().labels)
        for code in self.section.keep:
            if code not in codes:
                near = difflib.get_close_matches(code.lower(), codes, cutoff=0.4) or codes
                raise RecipeError(
                    f"corpus.rules.language.keep: the model knows no language {code!r}; use codes"
                    f" such as {', '.join(near)}"
                )

    def __call__(self, text: str, document: str) -> Judgement:
        """Judge one text; `language` and `language_score` (its probability) are notes."""
        code, probability = find_language(text)
        keep, least = self.section.keep, self.section.score
        known = code in keep or _whole(code) in keep
        if known and probability >= least:
            return kept(text, language=code, language_score=round(probability, 4))
        # Rounded down, so that what lies below the limit is never shown as if it reached it.
        value = f"{code} {math.floor(probability * 100) / 100:.2f}"
        return dropped("language", value, least if known else " or ".join(keep))


def find_language(text: str) -> tuple[str, float]:
    """The code of a text's likeliest language, and its probability among the model's languages.

    For a language of MEMBERS that of the whole, which the model is surer of than of its parts.
    """
    looked_at = _samples(text)
    if not any(map(str.isalpha, looked_at)):
        return NO_LANGUAGE, 1.0
    code, probability = _model().classify(looked_at)
    whole = _whole(code)
    if whole in MEMBERS:
        ranked = dict(_model().rank(looked_at))
        probability = sum(ranked[one] for one in (whole, *MEMBERS[whole]))
    return str(code), float(probability)


@cache
def _whole(code: str) -> str:
    """The language that one is part of, or itself."""
    return next((whole for whole, parts in MEMBERS.items() if code in parts), code)


def written_language(text: str) -> str:
    """The code of a text's language; English where it is unclear, as by rules for English alone."""
    code, probability = find_language(text)
    return code if probability >= LEAST_PROBABILITY and code != NO_LANGUAGE else ENGLISH


def _samples(text: str) -> str:
    if len(text) <= LOOKED_AT:
        return text
    size = LOOKED_AT // SAMPLES
    gap = (len(text) - size) / (SAMPLES - 1)
    starts = [round(gap * number) for number in range(SAMPLES)]
    return "\n".join(text[start : start + size] for start in starts)


@cache
def _model() -> Any:
    """The model, loaded once a process (0.3 s, 40 MB)."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


DESCRIPTION = RuleDescription(
    rules=lambda section: [Language(section)],
    behind_duplicates=False,
    summary="py3langid, whose model is in its package (`keep: [en]`)",
    not_applied="languages were not detected",
    limits="Languages are detected by a statistical model, which errs on short and mixed text.",
)
