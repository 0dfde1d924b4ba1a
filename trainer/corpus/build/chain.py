"""The stages of a build, in order: what each one's tasks do, and how many there are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainer.corpus.build.finish import finish, fit_tokenizer, judge_input, write_bucket
from trainer.corpus.build.plan import Plan
from trainer.corpus.build.record import Record
from trainer.corpus.rules import rules_of
from trainer.corpus.rules.quality import MinimumLength
from trainer.corpus.rules.rule import Rule
from trainer.recipe import CorpusSection


@dataclass(frozen=True)
class StageOfBuild:
    """One stage: `tasks` tasks that may run side by side once the stage before has ended."""

    name: str
    tasks: int
    pipeline: list[Any]


def stages(plan: Plan) -> list[StageOfBuild]:
    """What is to be done, in order. Each task leaves its files whole or not at all, so that a
    stopped build goes on with the tasks that had not ended.
    """
    from trainer.corpus.build.duplicate_steps import Decide, Match, Unique
    from trainer.corpus.build.steps import Call, Read, Sort, Stage

    def record(stage: str) -> Record:
        return Record(plan.folder, stage)

    def call(name: str, tasks: int, function: Callable[[Plan, int], None]) -> StageOfBuild:
        return StageOfBuild(name, tasks, [Call(plan, record(name), name, function)])

    first, second = prepared_rules(plan)
    reading, cleaning = record("read"), record("clean")
    steps = [Read(plan, reading), *_judges(plan, reading, first), Stage(plan, reading)]
    found = [StageOfBuild("read", plan.tasks, steps), call("judge", 1, judge_input)]
    if plan.deduplicates:
        found.append(StageOfBuild("match", plan.ranges, [Match(plan, record("match"))]))
        found.append(StageOfBuild("decide", 1, [Decide(plan, record("decide"))]))
    steps = [Unique(plan, cleaning), *_judges(plan, cleaning, second), Sort(plan, cleaning)]
    found.append(StageOfBuild("clean", plan.tasks, steps))
    found.append(call("tokenizer", 1, fit_tokenizer))
    found.append(call("shards", plan.validation_buckets + plan.buckets, write_bucket))
    found.append(call("finish", 1, finish))
    return found


def prepared_rules(plan: Plan) -> tuple[list[Rule], list[Rule]]:
    """The rules before and behind the removal of duplicates.

    Raises RecipeError or DataError where one cannot do its work: before the first document is read.
    """
    found = _rules_before(plan.section), rules_of(plan.section.rules, behind_duplicates=True)
    for rule in (*found[0], *found[1]):
        prepare = getattr(rule, "prepare", None)
        if prepare is not None:
            prepare()
    return found


def text_rules(section: CorpusSection) -> list[Rule]:
    """Every rule that judges a document by itself, in order."""
    return _rules_before(section) + rules_of(section.rules, behind_duplicates=True)


def _rules_before(section: CorpusSection) -> list[Rule]:
    first: list[Rule] = [MinimumLength(section.minimum_characters)]
    return first + rules_of(section.rules, behind_duplicates=False)


def _judges(plan: Plan, record: Record, rules: list[Rule]) -> list[Any]:
    from trainer.corpus.build.steps import Judge

    return [Judge(plan, record, rule) for rule in rules]
