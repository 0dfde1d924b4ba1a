"""The stages of a build, in order: what each one's tasks do, and how many there are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainer.corpus.build.finish import finish, fit_tokenizer, judge_input, write_bucket
from trainer.corpus.build.plan import Plan
from trainer.corpus.build.record import Record
from trainer.corpus.rules.quality import MinimumLength
from trainer.corpus.rules.rule import Rule
from trainer.recipe import CorpusSection
from trainer.recipe.curation import CurationRules


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

    first, second = rules_of(plan)
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


def rules_of(plan: Plan) -> tuple[list[Rule], list[Rule]]:
    """The rules before and behind the removal of duplicates.

    Raises RecipeError or DataError where one cannot do its work: before the first document is read.
    """
    found = _rules_before(plan.section), _rules_behind(plan.section)
    for rule in (*found[0], *found[1]):
        prepare = getattr(rule, "prepare", None)
        if prepare is not None:
            prepare()
    return found


def text_rules(section: CorpusSection) -> list[Rule]:
    """Every rule that judges a document by itself, in order."""
    return _rules_before(section) + _rules_behind(section)


def _rules_before(section: CorpusSection) -> list[Rule]:
    first: list[Rule] = [MinimumLength(section.minimum_characters)]
    return first if section.rules is None else first + _rules_of_text(section.rules)


def _rules_behind(section: CorpusSection) -> list[Rule]:
    return [] if section.rules is None else _rules_of_content(section.rules)


def _rules_of_text(rules: CurationRules) -> list[Rule]:
    from trainer.corpus.rules.language import Language
    from trainer.corpus.rules.normalize import Normalize
    from trainer.corpus.rules.quality import quality_rules

    found: list[Rule] = []
    if rules.normalize is not None:
        found.append(Normalize(rules.normalize))
    if rules.language is not None:
        found.append(Language(rules.language))
    if rules.quality is not None:
        found += quality_rules(rules.quality)
    return found


def _rules_of_content(rules: CurationRules) -> list[Rule]:
    from trainer.corpus.rules.counterfactual import Counterfactual
    from trainer.corpus.rules.decontaminate import Decontaminate
    from trainer.corpus.rules.personal import Personal
    from trainer.corpus.rules.toxicity import Toxicity

    found: list[Rule] = []
    if rules.personal is not None:
        found.append(Personal(rules.personal))
    if rules.toxicity is not None:
        found.append(Toxicity(rules.toxicity))
    if rules.balance is not None and rules.balance.counterfactual > 0:
        found.append(Counterfactual(rules.balance))
    if rules.decontaminate is not None and rules.decontaminate.sets:
        found.append(Decontaminate(rules.decontaminate))
    return found


def _judges(plan: Plan, record: Record, rules: list[Rule]) -> list[Any]:
    from trainer.corpus.build.steps import Judge

    return [Judge(plan, record, rule) for rule in rules]
