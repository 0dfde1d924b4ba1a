"""The stages of a build in order, each with its number of tasks and the steps of a task."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainer.corpus.build.finish import (
    finish,
    fit_tokenizer,
    judge_input,
    plant_canaries,
    write_bucket,
)
from trainer.corpus.build.plan import BuildPlan
from trainer.corpus.build.record import TaskRecord
from trainer.corpus.rules import rules_of
from trainer.corpus.rules.quality import MinimumLength
from trainer.corpus.rules.rule import Rule
from trainer.recipe import CorpusSection


@dataclass(frozen=True)
class BuildStage:
    """One stage: `tasks` tasks, which may run in parallel once the stage before has ended.

    `pipeline`: the steps of each task, as datatrove takes them.
    """

    name: str
    tasks: int
    pipeline: list[Any]


def stages(plan: BuildPlan) -> list[BuildStage]:
    """All stages in order. A task's files appear whole or not at all, so that a stopped build
    continues with the tasks that had not ended.
    """
    from trainer.corpus.build.duplicate_steps import Decide, MatchDuplicates, Unique
    from trainer.corpus.build.steps import CallFunction, Read, Sort, WriteStaged

    def record(stage: str) -> TaskRecord:
        return TaskRecord(plan.folder, stage)

    def call(name: str, tasks: int, function: Callable[[BuildPlan, int], None]) -> BuildStage:
        return BuildStage(name, tasks, [CallFunction(plan, record(name), name, function)])

    first, second = prepared_rules(plan)
    reading, cleaning = record("read"), record("clean")
    steps = [Read(plan, reading), *_judges(plan, reading, first), WriteStaged(plan, reading)]
    found = [BuildStage("read", plan.tasks, steps), call("judge", 1, judge_input)]
    if plan.deduplicates:
        found.append(BuildStage("match", plan.ranges, [MatchDuplicates(plan, record("match"))]))
        found.append(BuildStage("decide", 1, [Decide(plan, record("decide"))]))
    steps = [Unique(plan, cleaning), *_judges(plan, cleaning, second), Sort(plan, cleaning)]
    found.append(BuildStage("clean", plan.tasks, steps))
    found.append(call("tokenizer", 1, fit_tokenizer))
    if plan.section.canaries is not None:
        found.append(call("canaries", 1, plant_canaries))
    found.append(call("shards", plan.validation_buckets + plan.buckets, write_bucket))
    found.append(call("finish", 1, finish))
    return found


def prepared_rules(plan: BuildPlan) -> tuple[list[Rule], list[Rule]]:
    """The rules that run before, and those that run after, the removal of duplicates.

    Prepares each, so that RecipeError or DataError for a rule that cannot work (a missing model or
    evaluation set) is raised before the first document is read.
    """
    found = _rules_before(plan.section), rules_of(plan.section.rules, behind_duplicates=True)
    for rule in (*found[0], *found[1]):
        prepare = getattr(rule, "prepare", None)
        if prepare is not None:
            prepare()
    return found


def text_rules(section: CorpusSection) -> list[Rule]:
    """Every rule that judges one document at a time, in order (all but removing duplicates)."""
    return _rules_before(section) + rules_of(section.rules, behind_duplicates=True)


def _rules_before(section: CorpusSection) -> list[Rule]:
    first: list[Rule] = [MinimumLength(section.minimum_characters)]
    return first + rules_of(section.rules, behind_duplicates=False)


def _judges(plan: BuildPlan, record: TaskRecord, rules: list[Rule]) -> list[Any]:
    from trainer.corpus.build.steps import Judge

    return [Judge(plan, record, rule) for rule in rules]
