"""Counts how much good prose the default rules of quality keep in each language: a check of the
table languages.tsv on texts that it is not derived from.

    apt-get download gnome-user-docs && dpkg-deb -x gnome-user-docs_*.deb docs
    python -m trainer.corpus.rules.check_languages docs/usr/share/help

Texts: the pages of GNOME's help in the translations of Debian's package gnome-user-docs 43.0, their
paragraphs without lists and tables, where they have LEAST_CHARACTERS or more as English counts
them. A page that is found to be in another language (many are not translated) is not counted.

Of 64 English pages 97% stay; of 1,388 in 29 other languages 96%, from 89% of 19 in Danish to all.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from trainer.corpus.rules.language import written_language
from trainer.corpus.rules.languages import prose_language
from trainer.corpus.rules.prose_language import ENGLISH, ProseLanguage
from trainer.corpus.rules.quality import quality_rules
from trainer.recipe.curation import FineWebQuality, QualityRules

LEAST_CHARACTERS = 1000
LEAST_PAGES = 10
"""A language with fewer is not shown."""
MALLARD = "{http://projectmallard.org/1.0/}"
NO_PROSE = {f"{MALLARD}{name}" for name in ("item", "td", "credit", "info")}


def main(folder: Path) -> None:
    """Print a row a language: pages, the share that stays, and why the others fall."""
    print("language\tpages\tkept\tfallen for")
    for code, texts in by_language(folder).items():
        language = prose_language(code)
        reasons = Counter(reason_to_drop(text, language) for text in texts)
        if len(texts) >= LEAST_PAGES:
            kept = reasons.pop(None, 0) / len(texts)
            fallen = "; ".join(f"{name}: {count}" for name, count in reasons.most_common())
            print(f"{code}\t{len(texts)}\t{kept:.2f}\t{fallen or '-'}")


def by_language(folder: Path) -> dict[str, list[str]]:
    """The texts of all pages by the language that they are found to be in, and are filed under."""
    found: dict[str, list[str]] = {}
    for translation in sorted(folder.iterdir()):
        code = ENGLISH if translation.name == "C" else translation.name.split("_")[0].split("@")[0]
        scale = prose_language(code).limit(FineWebQuality(), "short_line_characters")
        least = LEAST_CHARACTERS * (scale or 30) / FineWebQuality().short_line_characters
        for path in sorted(translation.glob("gnome-help/*.page")):
            text = "\n".join(paragraphs(path))
            if len(text) >= least and written_language(text) == code:
                found.setdefault(code, []).append(text)
    return found


def paragraphs(path: Path) -> Iterator[str]:
    """The paragraphs of a page in Mallard, but those in lists, tables and notices."""
    from lxml import etree  # type: ignore[import-untyped]

    for part in etree.parse(str(path)).iter(f"{MALLARD}p"):
        if not NO_PROSE.intersection(above.tag for above in part.iterancestors()):
            text = " ".join("".join(part.itertext()).split())
            if text:
                yield text


def reason_to_drop(text: str, language: ProseLanguage) -> str | None:
    """Why the default rules drop a text; None where they keep it."""
    for rule in quality_rules(QualityRules()):
        outcome = rule.judged(text, language)
        if outcome.text is None:
            return f"{rule.name}, {outcome.findings[0].reason}"
        text = outcome.text
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
