"""The counts of all tasks of a build, summed into curation.json and timings.json."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from trainer.corpus.build.canaries import planted_documents
from trainer.corpus.build.losses import losses_of
from trainer.corpus.build.plan import BuildPlan
from trainer.corpus.build.record import JUDGED_BY, LENGTH_BINS, read_counts
from trainer.corpus.reading.quarantine import Tally
from trainer.corpus.rules.rule import RuleByLanguage
from trainer.recipe.canaries import CANARY_SOURCE

MALFORMED_SHOWN = 20

TaskCounts = list[dict[str, Any]]
"""The counts of a stage's tasks, a dict a task as TaskRecord.finish writes it."""


def curation_of(plan: BuildPlan, tokens: int) -> dict[str, Any]:
    """The content of curation.json; `tokens`: how many the finished corpus has.

    The tokens of every step but the last are estimated from its bytes (`exact` is false there).
    """
    folder = Path(plan.folder)
    reading, cleaning = read_counts(folder, "read"), read_counts(folder, "clean")
    counts = reading + cleaning
    funnel = [*funnel_of(reading), *funnel_of(cleaning)]
    documents = cleaned = sum(count["facts"]["documents"] for count in cleaning)
    sources = _sources(counts)
    if plan.section.canaries is not None:
        planted, size = planted_documents(plan.section.canaries)
        documents += planted
        after = {"documents": documents, "bytes": funnel[-1]["bytes"] + size}
        funnel.append({"step": CANARY_SOURCE, **after})
        sources[CANARY_SOURCE] = {"files": 0, "read": planted, "kept": planted}
    last = funnel[-1]["bytes"]
    for step in funnel:
        step["tokens"] = round(step["bytes"] * tokens / last) if last else 0
        step["exact"] = False
    funnel.append(
        {"step": "tokenized", "documents": documents, "bytes": last, "tokens": tokens}
        | {"exact": True}
    )
    lengths = {name: _summed(counts, f"lengths {name}") for name in ("read", "kept")}
    return {
        "funnel": funnel,
        "controls": _controls(counts),
        "languages": dict(_summed(counts, "languages").most_common()),
        "left_out": _left_out(plan, counts),
        "lengths": {
            "edges": [2**index for index in range(LENGTH_BINS)],
            **{
                name: [bins[str(index)] for index in range(LENGTH_BINS)]
                for name, bins in lengths.items()
            },
        },
        "balance": _balance(_summed(counts, "balance"), cleaned),
        "malformed": _malformed(reading),
        "sources": sources,
        "losses": losses_of(counts, plan.section),
        "rules": plan.settings["rules"],
    }


def timings_of(plan: BuildPlan, curation: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The content of timings.json: a rule's CPU-seconds, and the documents and bytes it was given.

    A file of its own, because every other file is the same whenever the input is.
    """
    folder = Path(plan.folder)
    seconds = _sum(
        count["seconds"] for stage in ("read", "clean") for count in read_counts(folder, stage)
    )
    came = {after["step"]: before for before, after in pairwise(curation["funnel"])}
    return {
        rule: {
            "seconds": spent,
            "documents": came[rule]["documents"],
            "bytes": came[rule]["bytes"],
        }
        for rule, spent in seconds.items()
        if rule in came
    }


def _left_out(plan: BuildPlan, counts: TaskCounts) -> list[dict[str, Any]]:
    """The reasons that each rule did not look for in each language, and in how many documents."""
    from trainer.corpus.build.chain import text_rules

    return [
        {"rule": rule.name, "language": code, "documents": documents, "reasons": list(reasons)}
        for rule in text_rules(plan.section)
        if isinstance(rule, RuleByLanguage)
        for code, documents in _summed(counts, f"{JUDGED_BY} {rule.name}").most_common()
        if (reasons := rule.left_out(code))
    ]


def _balance(counts: Counter[str], documents: int) -> list[dict[str, Any]]:
    if not counts:
        return []
    from trainer.corpus.rules.balance import balance_report

    return balance_report(counts, documents)


def funnel_of(counts: TaskCounts) -> list[dict[str, Any]]:
    """Documents and bytes that each step passed on, summed over all tasks."""
    totals: dict[str, list[int]] = {}
    for count in counts:
        for step, (documents, size) in count["funnel"].items():
            total = totals.setdefault(step, [0, 0])
            total[0] += documents
            total[1] += size
    return [
        {"step": step, "documents": documents, "bytes": size}
        for step, (documents, size) in totals.items()
    ]


def _controls(counts: TaskCounts) -> list[dict[str, Any]]:
    totals: dict[tuple[str, str, str], Counter[str]] = {}
    for count in counts:
        for rule, reason, threshold, action, number in count["controls"]:
            totals.setdefault((rule, reason, threshold), Counter())[action] += number
    return [
        {
            "rule": rule,
            "reason": reason,
            "threshold": threshold,
            "dropped": actions["dropped"],
            "changed": actions["changed"] + actions["added"],
        }
        for (rule, reason, threshold), actions in totals.items()
    ]


def drops_of(counts: TaskCounts) -> list[tuple[tuple[str, str], int]]:
    """The number of documents that each (rule, reason) dropped, largest first, without zeros."""
    total: Counter[tuple[str, str]] = Counter()
    for control in _controls(counts):
        total[(control["rule"], control["reason"])] += control["dropped"]
    return [(key, number) for key, number in total.most_common() if number]


def tally_of(counts: TaskCounts) -> Tally:
    """The counts of records read and malformed, summed over all tasks."""
    total = Tally()
    for count in counts:
        if "tally" in count["facts"]:
            total.absorb(Tally.from_summary(count["facts"]["tally"]))
    return total


def _malformed(counts: TaskCounts) -> dict[str, Any]:
    rows = [row for count in counts for row in count["facts"].get("set aside", [])]
    return {**tally_of(counts).summary(), "first": rows[:MALFORMED_SHOWN]}


def _sources(counts: TaskCounts) -> dict[str, dict[str, int]]:
    files, read, kept = (_summed(counts, f"sources {name}") for name in ("files", "read", "kept"))
    return {
        name: {"files": files[name], "read": read[name], "kept": kept[name]}
        for name in sorted({*files, *read})
    }


def _summed(counts: TaskCounts, group: str) -> Counter[str]:
    return _sum(count["counts"].get(group, {}) for count in counts)


def _sum(parts: Iterable[dict[str, Any]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return total
