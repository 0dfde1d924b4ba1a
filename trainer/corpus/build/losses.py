"""Sources of which one rule drops most: said while a build runs, and in its account."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainer.corpus.build.record import DROPPED, GIVEN, TEXT, read_count, read_glimpse
from trainer.corpus.rules import rule_descriptions
from trainer.corpus.rules.quality_measures import MEASURES
from trainer.recipe import CorpusSection

log = logging.getLogger(__name__)

MOST = 0.5
"""Share of a source's documents, or of their text, above which a rule takes most of it."""
LEAST_DOCUMENTS, LEAST_BYTES = 20, 1 << 20
"""Of a smaller source, in both, nothing is said: it may be chance."""
LINES_SAID = 20
KEYS = {
    "minimum length": "corpus.minimum_characters",
    "duplicate": "corpus.exact_duplicates",
    "near duplicate": "corpus.near_duplicates",
    "language": "corpus.rules.language.keep",
    "lorem ipsum": "corpus.rules.quality.c4.lorem_ipsum",
    "curly brackets": "corpus.rules.quality.c4.curly_bracket",
    "too few sentences": "corpus.rules.quality.c4.minimum_sentences",
    "personal data": "corpus.rules.personal.drop_above",
    "slurs": "corpus.rules.toxicity.slurs",
    "discussed slurs": "corpus.rules.toxicity.discussed_slurs",
    "toxic words a thousand": "corpus.rules.toxicity.toxic_words_a_thousand",
    "hostile words": "corpus.rules.toxicity.hostile_words",
    "evaluation set": "corpus.rules.decontaminate.matches",
}
"""The keys of rules' and reasons' limits, where no table of the rule itself has them."""


@dataclass(frozen=True)
class SourceLoss:
    """What one rule took of one source.

    `source`: an entry of `corpus.files`, a package, or what the records name; `documents` and
    `bytes` of the source that came to the rule; `dropped`, `dropped_bytes`: of these; `reason`: the
    commonest one, of `for_reason` documents; `key`: the recipe's key that changes it.
    """

    rule: str
    source: str
    documents: int
    bytes: int
    dropped: int
    dropped_bytes: int
    reason: str
    for_reason: int
    key: str

    @property
    def is_most(self) -> bool:
        """Whether that is most of a source that is not tiny."""
        share = max(self.dropped / self.documents, self._share_of_text)
        enough = self.documents >= LEAST_DOCUMENTS or self.dropped_bytes >= LEAST_BYTES
        return enough and share > MOST

    def line(self, so_far: bool = False) -> str:
        """The loss in a line; `so_far`: while more of the source may come."""
        many = f"{self.dropped:,} of {self.documents:,} documents{' so far' * so_far}"
        shares = f"{self.dropped / self.documents:.0%}, {self._share_of_text:.0%} of the text"
        return (
            f"the rule {self.rule} drops most of {self.source}: {many} ({shares}),"
            f" {self.for_reason:,} of them by {self.reason!r}; {self.key} changes that"
        )

    @property
    def _share_of_text(self) -> float:
        return self.dropped_bytes / max(self.bytes, 1)


@dataclass
class LossWatch:
    """Says each loss once, as soon as tasks that have ended, or the next one's glimpses, show it.

    Tasks are looked at in their order, whichever ends first, so that a build of the same input
    says the same lines.
    """

    folder: Path
    section: CorpusSection
    _counts: dict[str, Counter[str]] = field(default_factory=dict)
    _next: Counter[str] = field(default_factory=Counter)
    _glimpses: Counter[tuple[str, int]] = field(default_factory=Counter)
    _said: set[tuple[str, str]] = field(default_factory=set)

    def look(self, stage: str) -> None:
        """Take in the stage's tasks that have ended since, and log new losses."""
        while True:
            rank = self._next[stage]
            ended = read_count(self.folder, stage, rank)
            # Those of a task that has ended come first, as if it had been watched all along.
            while (count := self._glimpse(stage, rank)) is not None:
                so_far = {group: counts.copy() for group, counts in self._counts.items()}
                _add(so_far, count)
                self._say_new(so_far)
            if ended is None:
                return
            self._next[stage] += 1
            _add(self._counts, ended)
            self._say_new(self._counts)

    def _glimpse(self, stage: str, rank: int) -> dict[str, Any] | None:
        count = read_glimpse(self.folder, stage, rank, self._glimpses[stage, rank])
        self._glimpses[stage, rank] += count is not None
        return count

    def _say_new(self, counts: dict[str, Counter[str]]) -> None:
        for loss in _found(counts, self.section):
            if (loss.rule, loss.source) not in self._said:
                self._say(loss)

    def _say(self, loss: SourceLoss) -> None:
        self._said.add((loss.rule, loss.source))
        if len(self._said) <= LINES_SAID:
            log.warning("%s", loss.line(so_far=True))
        elif len(self._said) == LINES_SAID + 1:
            log.warning("further rules drop most of a source: the data card lists them")


def losses_of(counts: Iterable[dict[str, Any]], section: CorpusSection) -> list[dict[str, Any]]:
    """The losses in a whole build, by rule and source, as JSON values."""
    total: dict[str, Counter[str]] = {}
    for count in counts:
        _add(total, count)
    return [asdict(loss) for loss in _found(total, section)]


def _add(total: dict[str, Counter[str]], count: dict[str, Any]) -> None:
    for group, part in count["counts"].items():
        total.setdefault(group, Counter()).update(part)


def _found(counts: dict[str, Counter[str]], section: CorpusSection) -> Iterator[SourceLoss]:
    for group in counts:
        if not group.startswith(f"{GIVEN} "):
            continue
        rule = group.removeprefix(f"{GIVEN} ")
        by_source: dict[str, Counter[str]] = {}
        for name, number in counts.get(f"{DROPPED} {rule}", Counter[str]()).items():
            source, _, reason = name.rpartition("\t")
            by_source.setdefault(source, Counter())[reason] += number
        for source, reasons in sorted(by_source.items()):
            reason, for_reason = min(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
            loss = SourceLoss(
                rule=rule,
                source=source,
                documents=counts[group][source],
                bytes=counts[f"{TEXT} {GIVEN} {rule}"][source],
                dropped=reasons.total(),
                dropped_bytes=counts[f"{TEXT} {DROPPED} {rule}"][source],
                reason=reason,
                for_reason=for_reason,
                key=key_to_change(section, rule, reason),
            )
            if loss.is_most:
                yield loss


def key_to_change(section: CorpusSection, rule: str, reason: str) -> str:
    """The recipe's key of the limit that a rule's reason broke, or else of the rule."""
    if (key := KEYS.get(rule, KEYS.get(reason))) is not None:
        return key
    for name, description in rule_descriptions().items():
        settings = getattr(section.rules, name, None)
        for one in description.rules(settings) if settings is not None else ():
            if one.name == rule:
                own = getattr(one, "section", None)
                parts = ["corpus", "rules", name]
                parts += [rule.replace(" ", "_")] if own is not settings else []
                parts += [
                    limit.key for limit in MEASURES.get(type(own), ()) if limit.reason == reason
                ]
                return ".".join(parts)
    return "corpus.rules"
