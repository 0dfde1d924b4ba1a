"""What each model of the experiment is asked, by the code of `lyceum evaluate`.

Records lie in a folder a model, a line an item; what is there is not asked again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.experiments.over_seeds import read_records
from launch.experiments.smollm2_figures import docstrings
from launch.experiments.truth import held_out_suite, instructions_suite
from trainer.checkpoint import resolve_checkpoint
from trainer.checkpoint.format import MANIFEST
from trainer.evaluate.answering import ModelRespondent
from trainer.evaluate.converted import readable_checkpoint
from trainer.evaluate.examination import ItemsDone, examine, prepare
from trainer.evaluate.given_text import GivenText
from trainer.evaluate.opened import open_model
from trainer.evaluate.suites import load_suite
from trainer.evaluate.suites.suite import ItemRecord, Suite, SuiteContext
from trainer.evaluate.text_pieces import WindowsOfText
from trainer.files import write_whole
from trainer.parallel.agreement import Ranks
from trainer.parallel.join import as_one_process

HELD_OUT = held_out_suite.SUITE
SUITES: Mapping[str, tuple[Suite, int | None]] = {
    one.name: (one, limit)
    for one, limit in (
        (HELD_OUT, None),
        (instructions_suite.SUITE, None),
        (load_suite("perplexity"), 500),
        (load_suite("bias"), 560),
    )
}
"""The suites by name, and how many items of each; None: all."""
_DONE = "measured.json"


def measured(
    checkpoint: Path, folder: Path, names: Sequence[str], limit: int | None
) -> dict[str, list[ItemRecord]]:
    """The records of a model by suite, in the order of their ids; those that failed are left out.

    `limit`: items of each suite at most.
    """
    done, asked = folder / _DONE, _asked(checkpoint, names)
    if not done.exists() or not asked.items() <= json.loads(done.read_text()).items():
        with as_one_process():
            _examine(checkpoint, folder, names, limit)
        write_whole(done, json.dumps(asked), durable=False)
    return {name: records_of(folder, name) for name in names}


def _asked(checkpoint: Path, names: Sequence[str]) -> dict[str, str]:
    """Of which model and in which version each suite is asked; others are asked anew."""
    manifest = resolve_checkpoint(readable_checkpoint(checkpoint)) / MANIFEST
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    return {name: f"{digest}, rules {SUITES[name][0].rules}" for name in names}


def _examine(checkpoint: Path, folder: Path, names: Sequence[str], limit: int | None) -> None:
    with open_model(checkpoint, 1) as model:
        respondent = ModelRespondent.of(model)
        text = WindowsOfText(GivenText([str(docstrings())]), model.tokenizer, model.longest)
        digest = hashlib.sha256((model.folder / MANIFEST).read_bytes()).hexdigest()
        for name in names:
            suite, most = SUITES[name]
            at_most = min((n for n in (limit, most) if n is not None), default=None)
            context = SuiteContext(respondent, limit=at_most, held_out=text)
            prepared = prepare(suite, context, Ranks())
            examine(prepared, respondent, Ranks(), folder, {"checkpoint": digest}, _say(folder))


def _say(folder: Path) -> ItemsDone:
    """Says of each suite that it is through."""

    def say(suite: str, items: int, of: int) -> None:
        if items == of:
            print(f"{folder.name}: {suite}: {of:,} items", flush=True)

    return say


def records_of(folder: Path, name: str) -> list[ItemRecord]:
    """The answered items of a suite in a folder of records, in the order of their ids."""
    return sorted(read_records(folder, name).values(), key=lambda one: str(one["id"]))
