"""What a run's own model is asked: questions of files, of the bank, and about a corpus's facts."""

import hashlib

from trainer.errors import DataError
from trainer.evaluate.stored_text import StoredText
from trainer.honesty.fact_questions import fact_questions
from trainer.questions.named import named_questions
from trainer.questions.question import Question
from trainer.recipe import Recipe
from trainer.recipe.own_samples import FactualitySection, OwnSamplesSection
from trainer.recipe.own_sets import own_sections


def questions_of(section: OwnSamplesSection, key: str, seed: int) -> list[Question]:
    """All questions of a section, in the order of files, bank and facts.

    Raises DataError in one line for a file that cannot be read, a question that does not fit its
    verifier, and two of one id; `key`: what an error calls the section.
    """
    found = named_questions(section.questions, section.verifier, f"{key}.questions")
    if (corpora := _corpora(section, key)) is not None:
        facts = fact_questions(corpora, seed)
        if not facts:
            raise DataError(
                f"{key}.corpora: {', '.join(corpora.names)} states no fact that can be asked: name"
                " another, or leave it out"
            )
        found += facts
    known: dict[str, Question] = {}
    for question in found:
        if question.id in known:
            raise DataError(
                f"{question.named}: has the id {question.id!r} of {known[question.id].named}: give"
                " it another"
            )
        known[question.id] = question
    return found


def _corpora(section: OwnSamplesSection, key: str) -> StoredText | None:
    """The corpora whose facts are asked, if any."""
    if not isinstance(section, FactualitySection) or not section.corpora:
        return None
    try:
        return StoredText.at(*section.corpora)
    except DataError as error:
        raise DataError(f"{key}.corpora: {error}") from None


def content_keys(recipe: Recipe) -> dict[str, str]:
    """24 hex digits that follow from all that the run's own model is asked now, by the sets' names.

    Raises as `questions_of`.
    """
    return {
        name: _content_key(section, f"conversations.{name}")
        for name, section in own_sections(recipe).items()
    }


def _content_key(section: OwnSamplesSection, key: str) -> str:
    """Facts are not mined for it: they follow from the corpora."""
    digest = hashlib.sha256()
    for one in named_questions(section.questions, section.verifier, f"{key}.questions"):
        asked = (one.text, one.system, one.answers, one.verifier, sorted(one.options.items()))
        digest.update(repr((one.id, *asked, one.kind, one.reason)).encode())
    if (corpora := _corpora(section, key)) is not None:
        digest.update(corpora.fingerprint.encode())
    return digest.hexdigest()[:24]
