"""Asking a model questions several times: recorded as it answers, gone on with by question."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.errors import RecipeError, TrainingError
from trainer.evaluate.examination import ItemsDone, examine, prepare
from trainer.evaluate.records import FAILED, NAME_ANOTHER, file_name
from trainer.evaluate.respondent import Respondent, Response, TextQuery, WrittenAnswer
from trainer.evaluate.suites.suite import FigureKind, Item, ItemRecord, Suite, SuiteContext
from trainer.parallel.agreement import Ranks
from trainer.questions.samples import AnswerSample, SampledQuestion
from trainer.questions.verifiers import verify
from trainer.recipe.own_samples import OwnSamplesSection, RefusalsSection
from trainer.stages.asking import AskedQuestion, draws_for

SAMPLES = "samples"
"""The records' name in the folder of a set: samples.jsonl."""
RULES = 3
"""Raised when the same questions would be asked, or verified, otherwise."""


@dataclass(frozen=True)
class Asking:
    """What is asked: `name` of the set; `key`: what the questions' content is told apart by.

    `questions`: on the first rank.
    """

    name: str
    section: OwnSamplesSection
    questions: Sequence[AskedQuestion]
    key: str
    seed: int

    def samples(self, asked: AskedQuestion) -> bool:
        """Whether the set needs texts of the model: what nobody can know is declined without."""
        return asked.question.answerable or not isinstance(self.section, RefusalsSection)

    def suite(self) -> Suite:
        """The questions as a suite, whose items are asked `samples` times."""
        by_id = {asked.question.id: asked.question for asked in self.questions}

        def judge(item: Item, answers: Sequence[Response]) -> ItemRecord:
            samples = []
            for answer in answers:
                assert isinstance(answer, WrittenAnswer)
                verdict = verify(by_id[item.id], answer.text)
                sample = AnswerSample(answer.text, answer.ended, verdict.outcome, verdict.why)
                samples.append(asdict(sample))
            return {SAMPLES: samples}

        section = self.section
        return Suite(
            name=SAMPLES,
            measures="What the model that a run starts from says when it is asked several times.",
            leaves_out="Whatever else it could have said.",
            source=f"conversations.{self.name}",
            rules=RULES,
            items=lambda _: list(map(self._item, filter(self.samples, self.questions))),
            judge=judge,
            figures=lambda _: {"right": _RIGHT},
            options={
                "questions": self.key,
                "samples": section.samples,
                "temperature": section.temperature,
                "tokens": section.tokens,
            },
        )

    def _item(self, asked: AskedQuestion) -> Item:
        section, question = self.section, asked.question
        queries = tuple(
            TextQuery(
                asked.prompt,
                section.tokens,
                temperature=section.temperature,
                seed=draws_for(self.seed, self.name, question.id, copy),
            )
            for copy in range(section.samples)
        )
        shown = {
            "question": question.text,
            "system": asked.prompt.system,
            "answers": list(question.answers),
            "kind": question.kind,
            "place": question.place,
        }
        return Item(question.id, queries, shown)


def _right_share(record: ItemRecord) -> Sequence[float]:
    samples = [AnswerSample(**one) for one in record[SAMPLES]]
    return (sum(one.outcome == "right" for one in samples) / len(samples),)


_RIGHT = FigureKind("share of a question's samples that are right", _right_share, better="higher")


def sample(
    asking: Asking,
    respondent: Respondent,
    ranks: Ranks,
    folder: Path,
    model: Mapping[str, Any],
    advance: ItemsDone,
) -> None:
    """Ask all that has not been asked before, and record it in folder/samples.jsonl; collective.

    `model`: what tells one model from another, as JSON. Raises what the respondent's stop raises,
    and TrainingError, of which what was recorded stays, where the model has no answer to a question
    or records cannot be written.
    """
    prepared = prepare(asking.suite(), SuiteContext(respondent, seed=asking.seed), ranks)
    try:
        result = examine(prepared, respondent, ranks, folder, model, advance)
    except RecipeError as error:  # the records' folder: nobody named this one
        raise TrainingError(
            str(error).replace(NAME_ANOTHER, "mend that, and the same command goes on")
        ) from None
    if result.failed:
        raise TrainingError(
            f"conversations.{asking.name}: {result.failures}: the model that the run starts from"
            " cannot be asked; try another, or leave these questions out"
        )


def sampled_questions(asking: Asking, folder: Path) -> list[SampledQuestion]:
    """The questions with what was recorded of them, if they were asked, in their order."""
    found: dict[str, ItemRecord] = {}
    # Texts may hold other letters at which splitlines would cut.
    text = (folder / f"{file_name(SAMPLES)}.jsonl").read_text(encoding="utf-8")
    for line in text.split("\n"):
        if line:
            record = json.loads(line)
            if FAILED not in record:
                found[record["id"]] = record
    return [
        SampledQuestion(
            asked.question,
            tuple(AnswerSample(**one) for one in found[asked.question.id][SAMPLES])
            if asking.samples(asked)
            else (),
        )
        for asked in asking.questions
    ]
