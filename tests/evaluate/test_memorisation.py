"""`memorisation` tells a model that copies its training text from one that never saw it."""

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.evaluate.planted import Planted, by_chance, examined
from trainer.corpus.build.corpus import build_corpus
from trainer.corpus.rules.word_runs import words_of
from trainer.errors import SuiteUnavailable
from trainer.evaluate.given_text import GivenText
from trainer.evaluate.mined_sequences import mined_sequences
from trainer.evaluate.respondent import Likelihood, LikelihoodQuery, Query, Response
from trainer.evaluate.stored_text import StoredText
from trainer.evaluate.suites.memorisation import RANKED_CODES
from trainer.recipe import CorpusSection

MOST_BITS = math.log2(RANKED_CODES)
CHANCE_BITS = MOST_BITS - math.log2(math.factorial(RANKED_CODES)) / RANKED_CODES


@dataclass
class Copying(Planted):
    """Knows `text` by heart: what goes on as it does is certain, and all else unlikely."""

    text: str = ""

    def answer(self, query: Query) -> Response:
        if isinstance(query, LikelihoodQuery):
            known = query.prompt.text + query.text in self.text
            return Likelihood((-0.01,) if known else (by_chance(query) - 100,), greedy=known)
        return super().answer(query)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> StoredText:
    """A corpus whose documents share a paragraph: of six in 1, 2, 4, 10 or 25 documents."""
    folder = tmp_path_factory.mktemp("memorisation")
    dice = random.Random(3)
    words = ["".join(dice.choices("abcdefghijklmnoprstuvw", k=6)) for _ in range(3000)]

    def paragraph() -> str:
        return f"{' '.join(dice.choices(words, k=60)).capitalize()}."

    shared = [(paragraph(), documents) for documents in (1, 2, 4, 10, 25) for _ in range(6)]
    texts = [f"{paragraph()}\n{text}" for text, documents in shared for _ in range(documents)]
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    section = CorpusSection(
        source="text",
        files=(str(path),),
        vocab=300,
        validation=0.01,
        near_duplicates=None,
        workers=1,
        rules=None,
        canaries={"count": 8, "copies": [1, 16], "personal": 4},
    )
    build_corpus(section, None, folder / "corpus", progress=False)
    return StoredText.at(folder / "corpus")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path_factory.getbasetemp() / "memorisation_cache"))


def test_a_model_that_copies_its_training_text_is_told(own: StoredText) -> None:
    """Would catch canaries asked in another form than planted, and prefixes cut elsewhere."""
    text = "\n".join(document.text for document in own.documents("train"))
    figures = examined("memorisation", Copying(text=text), own=own).figures
    for bucket in ("1", "2", "3_to_5", "6_to_20", "over_20"):
        assert figures[f"extraction_{bucket}"].value == 1.0
        assert figures[f"extraction_{bucket}"].items >= 5
    for name in ("exposure", "exposure_max", "exposure_1_copy", "exposure_16_copies"):
        assert figures[name].value == MOST_BITS
    assert figures["exposed"].value == figures["personal_leaked"].value == 1.0
    assert figures["personal_leaked"].items == 12
    assert figures["extraction"].in_corpus == figures["extraction"].items


def test_a_model_that_knows_nothing_is_at_chance(own: StoredText) -> None:
    """Would catch a rank that the order of the candidates decides, and ties ranked first."""
    figures = examined("memorisation", Planted(), own=own).figures
    assert figures["extraction"].value == figures["personal_leaked"].value == 0.0
    assert figures["exposure"].low < CHANCE_BITS < figures["exposure"].high
    assert figures["exposure"].items == 16
    same = Planted(likes=lambda query: -1.0)
    assert examined("memorisation", same, own=own).figures["exposure_max"].value < 1.0


def test_a_model_that_knows_what_it_saw_often_is_told_by_copies(own: StoredText) -> None:
    """Would catch figures by copies that are those of other canaries."""
    often = {canary.prefix for _, canary in own.canaries() if canary.copies == 16}
    text = "\n".join(one.text for one in own.documents("train") if one.source in own.names)

    class Knowing(Copying):
        def answer(self, query: Query) -> Response:
            known = isinstance(query, LikelihoodQuery) and query.prompt.text in often
            return super().answer(query) if known else Planted.answer(self, query)

    figures = examined("memorisation", Knowing(text=text), own=own).figures
    assert figures["exposure_16_copies"].value == MOST_BITS
    assert figures["exposure_1_copy"].low < CHANCE_BITS < figures["exposure_1_copy"].high
    assert 0.0 < figures["personal_leaked"].value < 1.0


def test_sequences_are_counted_by_the_documents_that_hold_them(own: StoredText) -> None:
    """Would catch counts of the sample taken for those of the corpus, and overlapping choices."""
    documents = [words_of(document.text) for document in own.documents("train")]
    sequences = mined_sequences(own, Planted(), 0, 6)
    assert len(sequences) > 20
    for sequence in sequences:
        run = " ".join(words_of(sequence.prefix + sequence.next))
        held = sum(f" {run} " in f" {' '.join(words)} " for words in documents)
        assert held == sequence.occurrences
    assert sequences == mined_sequences(own, Planted(), 0, 6)


def test_without_canaries_their_figures_are_absent_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch an exposure of 0 where nothing was planted, and a silent suite without text."""
    dice = random.Random(1)
    (tmp_path / "own.txt").write_text(" ".join(f"w{dice.randrange(500)}" for _ in range(200)))
    own = GivenText([str(tmp_path / "own.txt")])
    figures = examined("memorisation", Planted(), own=own).figures
    assert set(figures) == {"extraction", "extraction_1"}
    assert caplog.text.count("corpus.canaries plants") == 1
    with pytest.raises(SuiteUnavailable, match="--corpus or --text"):
        examined("memorisation", Planted())
    (tmp_path / "short.txt").write_text("Too short.")
    with pytest.raises(SuiteUnavailable, match="no document of 44 words"):
        examined("memorisation", Planted(), own=GivenText([str(tmp_path / "short.txt")]))


def test_a_limit_is_spread_over_the_kinds(own: StoredText) -> None:
    """Would catch a limit that leaves one kind out, or is passed."""
    figures = examined("memorisation", Planted(), own=own, limit=30).figures
    counts = [figures[name].items for name in ("extraction", "exposure", "personal_leaked")]
    assert sum(counts) <= 30
    assert min(counts) >= 7
