"""A corpus of several languages: each document judged by its own, and what was left out is said."""

import json
import logging
from pathlib import Path

import pytest

from tests.corpus.rules.prose_by_language import PROSE_BY_LANGUAGE
from tests.corpus.rules.texts import PROSE
from trainer.corpus.build.corpus import build_corpus
from trainer.corpus.inspect.card import data_card
from trainer.corpus.inspect.curation import Curation, UnjudgedReasons, load_curation
from trainer.recipe import CorpusSection

LANGUAGES = ("de", "zh", "my")


@pytest.mark.parametrize("rule", [{"keep": ["en", *LANGUAGES]}, None])
def test_each_document_is_judged_by_its_own_language(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rule: dict[str, list[str]] | None
) -> None:
    """Would catch one language's rules for all documents, with or without a rule on languages, and
    a rule that is left out without a word.
    """
    texts = {"en": PROSE} | {code: PROSE_BY_LANGUAGE[code] for code in LANGUAGES}
    bad = {f"bad {code}": "\n".join([text.split("\n")[0]] * 4) for code, text in texts.items()}
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps({"id": name, "text": text}) for name, text in (texts | bad).items()]
    path.write_text("\n".join(lines))
    section = CorpusSection.model_validate(
        {"source": "text", "files": [str(path)], "vocab": 300, "workers": 1}
        | {"rules": {"language": rule}}
    )
    with caplog.at_level(logging.WARNING, "trainer.corpus"):
        build_corpus(section, None, tmp_path / "corpus", progress=False)
    curation = load_curation(tmp_path / "corpus")
    assert curation is not None
    dropped = {control.reason: control.dropped for control in curation.controls if control.dropped}
    assert dropped == {"duplicate lines": 4}
    assert [step.documents for step in curation.funnel][-1] == 4
    (said,) = curation.left_out_lines()
    assert said.startswith(
        "gopher quality does not look for too few stop words in my (1 document):"
    )
    (record,) = caplog.records
    assert record.getMessage() == f"{tmp_path / 'corpus'}: {said}"
    assert said in data_card(tmp_path / "corpus").replace("\\", "")


def test_many_languages_are_one_line() -> None:
    """Would catch a line of a hundred languages on the screen, or one of them lost on the card."""
    rows = [UnjudgedReasons("c4", f"x{n}", 20 - n, ("too few words",)) for n in range(12)]
    curation = Curation(left_out=(*rows, UnjudgedReasons("c4", "th", 1, ("line breaks",))))
    short, other = curation.left_out_lines(2)
    assert short.startswith(
        "c4 does not look for too few words in x0 (20 documents), x1 (19) and 10 o"
    )
    assert "line breaks in th (1 document):" in other
    assert all(row.language in curation.left_out_lines()[0] for row in rows)
