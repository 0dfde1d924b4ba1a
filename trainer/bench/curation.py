"""`lyceum bench curation`: planted documents through the real chain, precision and recall a rule,
and what each rule costs.
"""

import json
import logging
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from trainer.bench.display import table_of
from trainer.corpus.build.corpus import build_corpus
from trainer.corpus.planted import PASSAGE, Planted, plant
from trainer.demo.clean_docstrings import clean_documents
from trainer.files import write_output
from trainer.recipe import CorpusSection

log = logging.getLogger(__name__)

SEED = 17
FAMILIES = {
    "minimum length": "quality",
    "gopher repetition": "quality",
    "gopher quality": "quality",
    "c4": "quality",
    "fineweb": "quality",
}
"""Rules that judge one thing together: boilerplate may fall to any of them."""
TIDYING = {"normalize", "quality"}


@dataclass(frozen=True)
class Score:
    """How a control did: of `planted` documents it caught `caught`, and acted on `acted` in all."""

    rule: str
    planted: int
    caught: int
    acted: int

    @property
    def recall(self) -> float | None:
        """Share of the planted ones that were caught; None without any."""
        return self.caught / self.planted if self.planted else None

    @property
    def precision(self) -> float | None:
        """Share of what it acted on that was planted for it; None where it did not act."""
        return self.caught / self.acted if self.acted else None


@dataclass(frozen=True)
class Trial:
    """What became of the planted documents, what each rule cost, and what went otherwise."""

    documents: int
    scores: list[Score]
    timings: dict[str, dict[str, float]]
    otherwise: list[dict[str, str]]
    """Documents that a rule missed, or acted on without cause: id, kind, expected, found."""


def curation_command(documents: int, json_file: Path | None) -> None:
    """Run the trial, print its tables, and write them as JSON where asked."""
    with tempfile.TemporaryDirectory(prefix="lyceum-curation-") as folder:
        trial = run_trial(Path(folder), documents)
    print_trial(Console(), trial)
    scores = [
        asdict(score) | {"precision": score.precision, "recall": score.recall}
        for score in trial.scores
    ]
    write_output(json_file, asdict(trial) | {"scores": scores})


def run_trial(folder: Path, documents: int) -> Trial:
    """Plant bad documents among `documents` clean ones, build with the default rules, and look.

    Clean documents are docstrings of this machine's packages that the default rules pass, so that
    it is the planted ones, and those that only look bad, which tell. Raises RecipeError where there
    are too few of them.
    """
    planted = plant(clean_documents(documents), SEED)
    lines = [json.dumps({"id": one.id, "text": one.text}) for one in planted]
    (folder / "planted.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "evaluation.txt").write_text(PASSAGE + "\n", encoding="utf-8")
    section = CorpusSection.model_validate(
        {
            "source": "text",
            "files": [str(folder / "planted.jsonl")],
            "vocab": 300,
            "rules": {
                "decontaminate": {
                    "sets": [{"name": "planted", "file": str(folder / "evaluation.txt")}]
                }
            },
        }
    )
    build_corpus(section, None, folder / "corpus", progress=False)
    return judge(planted, folder / "corpus")


def judge(planted: list[Planted], corpus: Path) -> Trial:
    """Hold the audit of a build against what was planted."""
    import pyarrow.parquet as pq

    rows = pq.read_table(corpus / "audit", columns=["document", "rule", "action"]).to_pylist()
    acted: dict[str, set[str]] = {}
    for row in rows:
        rule = FAMILIES.get(row["rule"], row["rule"])
        # Normalization and C4 tidy lines of good documents too.
        if row["action"] == "dropped" or rule not in TIDYING:
            acted.setdefault(row["document"], set()).add(rule)
    total, caught, all_acted = Counter[str](), Counter[str](), Counter[str]()
    otherwise = []
    for one in planted:
        found = acted.get(one.id, set())
        if one.rule is not None:
            total[one.rule] += 1
            caught[one.rule] += one.rule in found
        all_acted.update(found)
        if found != ({one.rule} if one.rule is not None else set()):
            expected = one.rule or "passes"
            verdict = {"expected": expected, "found": ", ".join(sorted(found)) or "passed"}
            otherwise.append({"document": one.id, "kind": one.kind, **verdict})
    scores = [
        Score(rule, total[rule], caught[rule], all_acted[rule])
        for rule in sorted({*total, *all_acted})
    ]
    timings = json.loads((corpus / "timings.json").read_bytes())
    return Trial(len(planted), scores, timings, otherwise)


def print_trial(console: Console, trial: Trial) -> None:
    """Both tables, and every document that met another fate than it should."""
    heads = ("control", "planted", "caught", "acted on", "precision", "recall")
    console.print(
        table_of(
            f"{trial.documents:,} documents, planted and clean", heads, map(_cells, trial.scores)
        )
    )
    for one in trial.otherwise:
        console.print(
            f"{one['document']} ({one['kind']}): expected {one['expected']}, found {one['found']}",
            markup=False,
        )
    if not trial.otherwise:
        console.print("every planted document was caught by its rule, and no other was touched")
    console.print(_costs(trial.timings))


def _cells(score: Score) -> tuple[str, ...]:
    counts = (str(count) for count in (score.planted, score.caught, score.acted))
    return (score.rule, *counts, _share(score.precision), _share(score.recall))


def _costs(timings: dict[str, dict[str, Any]]) -> Table:
    seconds = {rule: max(cost["seconds"], 1e-9) for rule, cost in timings.items()}
    rows = [
        (
            *(rule, f"{cost['documents'] / seconds[rule]:,.0f}"),
            f"{cost['bytes'] / seconds[rule] / 1e6:,.1f}",
        )
        for rule, cost in timings.items()
    ]
    return table_of("cost of the rules, one core", ("rule", "documents/s", "MB/s"), rows)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
