"""The reference model's log-probabilities: computed once, forward only, and stored with a set."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from trainer.data.batch import Batch, RowsBeingFilled
from trainer.data.manifest import KINDS, Manifest
from trainer.data.references import has_references, reference_folder, write_references
from trainer.data.stream import Stream
from trainer.errors import DataError, RecipeError
from trainer.files import write_whole
from trainer.model.micro_batches import MicroBatch, MicroBatchCutter
from trainer.model.transformer import LanguageModel
from trainer.parallel.agreement import Ranks
from trainer.parallel.layout import Layout
from trainer.parallel.megatron import evaluating
from trainer.parallel.schedule import forward_backward
from trainer.recipe import Recipe
from trainer.recipe.model import ModelSection
from trainer.stages.answers import answer_log_probabilities, segment_ids, sum_over_context
from trainer.stages.stage import StageParts

log = logging.getLogger(__name__)

RECORD = "reference.json"
"""Name of the file in the run directory that records which reference the run uses."""


class AnswerPass:
    """Log-probabilities of packed answers, without gradients, through the layout's schedule."""

    def __init__(self, chunks: list[LanguageModel], recipe: Recipe, layout: Layout) -> None:
        self._chunks, self._layout = chunks, layout
        self._cutter = MicroBatchCutter(recipe, layout)

    @torch.no_grad()
    def of(self, batch: Batch) -> list[Tensor]:
        """Log-probabilities (nats) of the answers, fp32 [rows, most] for each micro-batch.

        An empty list on all pipeline stages but the last. Collective over the ranks of a replica.
        """
        with evaluating(self._chunks):
            reports = forward_backward(
                self._forward_step, self._cutter.cut(batch), self._chunks, forward_only=True
            )
        return [report["answers"] for report in reports]

    def _forward_step(
        self, micro_batches: Iterator[MicroBatch], chunk: Any
    ) -> tuple[Tensor, Callable[..., Any]]:
        micro = next(micro_batches)
        nats = chunk(micro.tokens, micro.layout, micro.labels, reduction="none")
        return nats, partial(self._report, micro)

    def _report(self, micro: MicroBatch, nats: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        assert micro.segments is not None
        ids = segment_ids(micro.layout.position_ids)[:, micro.places]
        most = micro.segments.reference.shape[1]
        sums, _ = answer_log_probabilities(nats, micro.labels, ids, most)
        answers = sum_over_context(sums, self._layout.context)
        return answers.sum(), torch.ones((), dtype=torch.int), {"answers": answers}


def ensure_references(parts: StageParts) -> str:
    """Store the reference's log-probabilities of every set; returns the reference's key.

    Before the first step the weights are the reference, and what is not stored yet is computed.
    Collective. Raises RecipeError for a set that is not local, DataError where a resumed run's
    references are gone.
    """
    key = _key(parts)
    for folder, manifest in zip(parts.sources.folders, parts.sources.manifests, strict=True):
        if not isinstance(folder, Path):
            raise RecipeError(
                f"data.mixture: {folder} is remote, and the reference is kept beside a set; copy it"
            )
        stored = reference_folder(folder, key)
        if _all_see(stored, parts.layout):
            continue
        if parts.step:
            raise DataError(
                f"{stored} is gone, and step {parts.step} of {parts.run} is no reference any"
                " more; restore it, or start a new run"
            )
        _compute(parts, folder, manifest, stored)
    return key


def _all_see(stored: Path, layout: Layout) -> bool:
    """Whether every rank sees the references: another run may be storing them at this moment."""
    seen = torch.tensor(float(has_references(stored)), device=layout.device)
    dist.all_reduce(seen, op=dist.ReduceOp.MIN)
    return bool(seen)


def _changed_keys(model: ModelSection, base: dict[str, Any]) -> dict[str, Any]:
    """The keys of the model section that the run sets otherwise than its base, as a rotation."""
    defaults = {name: field.default for name, field in ModelSection.model_fields.items()}
    return {
        name: value
        for name, value in model.model_dump(mode="json").items()
        if value != base.get(name, defaults[name])
    }


def _key(parts: StageParts) -> str:
    """A key for the model that the run began with: a hash of its origin, changes and precision."""
    record = parts.run / RECORD
    if parts.step and record.exists():
        return str(json.loads(record.read_text(encoding="utf-8"))["key"])
    recipe = parts.recipe
    digest = hashlib.sha256(recipe.precision.encode())
    if recipe.init_from is not None:
        manifest = (Path(recipe.init_from) / "checkpoint.json").read_bytes()
        digest.update(manifest)
        if changes := _changed_keys(recipe.model, json.loads(manifest)["model"]):
            digest.update(json.dumps(changes, sort_keys=True).encode())
    else:
        digest.update(f"{recipe.seed} {recipe.model!r}".encode())
    key = digest.hexdigest()[:24]
    if parts.layout.reports:
        origin = {"key": key, "init_from": recipe.init_from}
        write_whole(record, (json.dumps(origin, indent=2) + "\n").encode())
    return key


def _compute(parts: StageParts, folder: Path, manifest: Manifest, stored: Path) -> None:
    started = time.perf_counter()
    values: dict[str, np.ndarray] = {}
    for split in manifest.splits:
        values |= _of_split(parts, folder, manifest, split)
    failure = None
    if parts.layout.reports:
        about = {
            "init_from": str(parts.recipe.init_from),
            "precision": parts.recipe.precision,
        }
        try:
            write_references(stored, values, about)
        except OSError as error:
            failure = f"cannot keep the reference in {stored}: {error.strerror or error}"
    if found := Ranks().first_failure(failure):
        raise DataError(f"{found[1]}; free space there, or point LYCEUM_CACHE elsewhere")
    log.info(
        "the reference's log-probabilities of %d examples: %.1f s, kept in %s",
        sum(map(len, values.values())),
        time.perf_counter() - started,
        stored,
    )


def _of_split(
    parts: StageParts, folder: Path, manifest: Manifest, split: str
) -> dict[str, np.ndarray]:
    """Each shard's log-probabilities, float32 [documents, segments], equal on all ranks."""
    recipe, layout = parts.recipe, parts.layout
    segments = KINDS[manifest.kind]
    shards = manifest.splits[split].shards
    values = {s.name: np.full((s.documents, segments), np.nan, dtype=np.float32) for s in shards}
    answers = AnswerPass(parts.chunks, recipe, layout)
    # Whole micro-batches for every rank, in the multiples that an interleaved pipeline needs.
    share = recipe.batch.micro * layout.pipeline.size
    own = range(layout.data.rank * share, (layout.data.rank + 1) * share)
    speaks = layout.last_stage and layout.tensor.rank == 0 and layout.context.rank == 0
    stream = Stream([(str(folder), 1.0)], split, recipe.sequence_length, manifests=[manifest])
    try:
        while not stream.ends_epoch():
            rows = RowsBeingFilled(share, recipe.sequence_length, manifest.end_of_text, True, True)
            places: list[list[tuple[str, int]]] = []
            for number in range(layout.data.size * share):
                if stream.ends_epoch():
                    break
                source, row = stream.advance()
                places.append(source.places(row))
                if number in own:
                    pieces = source.read(row)
                    rows.fill(number - own.start, pieces, [0.0] * len(pieces))
            batch = rows.pack(0, {}).unpack()
            most = segments * max(map(len, places))
            table = torch.zeros(layout.data.size * share, most, device=layout.device)
            found = answers.of(batch)
            if speaks:
                measured = torch.cat(found)[:, :most]
                table[own.start : own.stop, : measured.shape[1]] = measured
            dist.all_reduce(table)
            for measured, examples in zip(table.cpu().numpy(), places, strict=False):
                for number, (shard, index) in enumerate(examples):
                    values[shard][index] = measured[number * segments : (number + 1) * segments]
    finally:
        stream.close()
    if not all(np.isfinite(array).all() for array in values.values()):
        raise DataError(
            f"{folder}: the reference gives some answer no finite log-probability: look at the"
            f" weights of {recipe.init_from}"
        )
    return values
