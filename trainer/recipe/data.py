"""`data`: which corpora are read, and how they become batches."""

import difflib
import math
import os
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from trainer.addresses import without_secrets
from trainer.errors import RecipeError
from trainer.recipe.section import Count, FrozenSequence, Positive, Section
from trainer.recipe.text_member import USUAL, text_members


def _joined(by: str) -> BeforeValidator:
    """A list of texts is one text, as WebDataset and energon write them: `by` between its items."""

    def join(value: Any) -> Any:
        if isinstance(value, list | tuple) and value and all(type(item) is str for item in value):
            return by.join(value)
        return value

    return BeforeValidator(join)


class MixtureSource(Section):
    """One corpus of the mixture."""

    corpus: Annotated[str, _joined("::")]
    """The corpus folder, or its s3://, https:// or http:// URL. Fine-tuning also takes a set of
    conversations or preferences: a .jsonl, .json or .parquet file, a glob, or a set of the Hugging
    Face hub, hf://org/set?config=NAME&split=NAME&revision=NAME, each part with a default; a run
    goes on only with the data it began with, so name a commit as revision where the set may change.
    WebDataset's tars are listed as WebDataset lists them, `shards/{000000..000999}.tar`, several
    lists with `::` between them or as a YAML list, or by a glob, here, behind s3://, https:// or
    in a set of the hub (hf://org/set/data/*.tar); or name a folder that energon prepared
    (`.nv-meta`). The same tars may stand there twice with another `text`. They are
    tokenised once, with the recipe's `tokenizer` or that of `init_from`, into LYCEUM_CACHE (which
    all nodes of a run must see), when a run first needs them, or before, also for nodes without a
    network: `lyceum corpus build RECIPE`. To clean them first, build a corpus of them:
    `corpus.source: webdataset`."""
    text: Annotated[str | None, _joined(", ")] = None
    """Of WebDataset's tars, the member that is a sample's text, by its extension: `txt`, also
    gzipped; `json[text]` or `meta.json[pages][0]` for a field of JSON; `txt, md` or
    `json[text], json[caption]` for the first that is there. None: what energon's field_map says of
    it, or else `txt, text, json[text]`."""
    validation: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.02
    """Of WebDataset's tars, the share of samples held out, chosen by their text's hash (of few
    samples one all the same; 0: none); of energon folders, only where they have no part `val`."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Of a set of conversations or preferences: our names of fields to the set's, such as
    {question: ask, answer: reply}, and of turns' keys, {role: speaker, content: said}; none: the
    public forms' own."""
    roles: dict[str, str] = Field(default_factory=dict)
    """Of such a set: its names of roles to ours (system, user, assistant, tool), such as
    {client: user}, beside those that are known."""
    name: str | None = None
    """What metrics and curriculum call it; none: the folder's own name, with -2, -3, ... where
    that is taken."""
    weight: Annotated[float, Field(gt=0.0)] = 1.0
    """Its share of the packed sequences, relative to the other sources: 3 and 1 are 75% and 25%.
    Where there are several and all weights are below 1, they are shares and must sum to 1."""
    epochs: Positive | None = None
    """How often it may be read, in whole epochs; after that the others share what it had. None: as
    often as the run lasts."""


class CurriculumStage(Section):
    """Other weights of the mixture from a step of the run on."""

    after_step: Count
    """Steps made before these weights hold; 0: from the beginning."""
    weights: dict[str, Annotated[float, Field(ge=0.0)]]
    """The weight of every source by its name, as in `mixture`; 0 leaves it out of this stage."""


class RemoteSection(Section):
    """How corpora behind s3://, https:// and http:// are fetched; changes when, never what."""

    cache: str | None = None
    """Folder that keeps fetched shards, on a disk of the node; none: LYCEUM_CACHE/shards, or
    ~/.cache/lyceum/shards. All processes of a node share it."""
    cache_gib: Annotated[float, Field(gt=0.0)] = 64.0
    """What that folder may take up; the shards used longest ago go first."""
    read_ahead: Count = 1
    """Blocks fetched while the present one is read, fewer where the cache has no room for them."""
    attempts: Positive = 8
    """Failures in a row after which a transfer is given up."""
    timeout_seconds: Annotated[float, Field(gt=0.0)] = 60.0
    """How long a server may be silent, or slower than 1 KiB a second."""
    anonymous: bool = False
    """Ask S3 without credentials: for public buckets."""
    private_redirects: bool = False
    """Follow a web server's redirects to other hosts of a private network too, as a store inside of
    one may need; without, only to the host that was asked and to public ones. Never from https to
    http."""

    @property
    def access(self) -> "Access":
        """How files are asked for that are read as streams."""
        return Access(self.anonymous, self.private_redirects)


class Access(NamedTuple):
    """How remote files are asked for: the keys of the same names of `data.remote`."""

    anonymous: bool = False
    private_redirects: bool = False


class DataSection(Section):
    """The stream of packed sequences."""

    mixture: Annotated[tuple[MixtureSource, ...], FrozenSequence] = ()
    """Corpora to read; empty: the one of the recipe's own `corpus` section."""
    curriculum: Annotated[tuple[CurriculumStage, ...], FrozenSequence] = ()
    """Stages with other weights, in ascending order of `after_step`, each until the next begins;
    the mixture's own weights hold before the first. Validation always uses the mixture's own."""
    packing: Literal["best_fit", "none"] = "best_fit"
    """How documents fill a sequence: several by best fit, or one a sequence."""
    block_shards: Positive = 8
    """Consecutive shards whose documents are shuffled and packed together."""
    workers: Count = 1
    """Processes a rank that assemble batches; 0: the training process does."""
    prefetch: Positive = 2
    """Batches each worker keeps ready."""
    remote: RemoteSection = RemoteSection()
    """How remote corpora are fetched and kept."""

    def names(self) -> tuple[str, ...]:
        """The name of each source of the mixture, all different."""
        taken = {source.name for source in self.mixture if source.name is not None}
        names = []
        for source in self.mixture:
            name = source.name
            if name is None:
                name = plain = _plain_name(source.corpus)
                number = 1
                while name in taken:
                    number += 1
                    name = f"{plain}-{number}"
                taken.add(name)
            names.append(name)
        return tuple(names)

    def stage_weights(self, sequences_a_step: int) -> list[tuple[int, tuple[float, ...]]]:
        """The stages of the curriculum: first sequence, from 0, and the weight of each source."""
        names = self.names()
        return [
            (stage.after_step * sequences_a_step, tuple(stage.weights[name] for name in names))
            for stage in self.curriculum
        ]


def _plain_name(corpus: str) -> str:
    """The folder's own name; of a list of tars, that of the folder they lie in."""
    path = PurePosixPath(without_secrets(corpus).partition("?")[0])
    if ".tar" in path.name and set(path.name) & set("{*["):
        path = path.parent
    return path.name or without_secrets(corpus)


ROUNDING = 1e-3
"""How far shares may sum to something other than 1: thirds are written 0.333."""


def check_mixture(data: DataSection) -> None:
    """Raise RecipeError where the sources or the stages of a mixture contradict each other."""
    _check_names(data)
    names = data.names()
    weights = [source.weight for source in data.mixture]
    _check_sum("data.mixture", dict(zip(names, weights, strict=True)))
    if data.curriculum and not data.mixture:
        raise RecipeError("data.curriculum: weighs the sources of data.mixture, which is empty")
    before = -1
    for number, stage in enumerate(data.curriculum):
        _check_stage(f"data.curriculum.{number}", stage, names, before)
        before = stage.after_step


def _check_names(data: DataSection) -> None:
    read: dict[tuple[str, object], int] = {}
    given: dict[str, int] = {}
    for number, source in enumerate(data.mixture):
        if not source.corpus.strip():
            raise RecipeError(f"data.mixture.{number}.corpus: is empty; name a corpus folder")
        members = text_members(
            USUAL if source.text is None else source.text, f"data.mixture.{number}.text"
        )
        texts = (os.path.normpath(source.corpus), members)
        if texts in read:
            raise RecipeError(
                f"data.mixture.{number}.corpus: {source.corpus} already is source {read[texts]}"
                "; give it once, with the sum of the weights"
            )
        read[texts] = number
        if source.name is None:
            continue
        if not source.name.strip():
            raise RecipeError(f"data.mixture.{number}.name: is empty; leave it out or name it")
        if source.name in given:
            raise RecipeError(
                f"data.mixture.{number}.name: {source.name} already names source "
                f"{given[source.name]}; give it another"
            )
        given[source.name] = number


def _check_sum(key: str, weights: Mapping[str, float]) -> None:
    """Weights are ratios, except that several below 1 are meant as shares."""
    total = math.fsum(weights.values())
    if len(weights) < 2 or max(weights.values()) >= 1 or abs(total - 1) <= ROUNDING:
        return
    listed = " + ".join(f"{weight:g}" for weight in weights.values())
    raise RecipeError(
        f"{key}: the weights {listed} are shares, but sum to {total:.6g}; make them sum to 1, or "
        "give ratios of 1 and more"
    )


def _check_stage(key: str, stage: CurriculumStage, names: tuple[str, ...], before: int) -> None:
    if stage.after_step <= before:
        raise RecipeError(
            f"{key}.after_step: {stage.after_step} does not come after {before}; put the stages "
            "in ascending order"
        )
    for name in stage.weights:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            mend = f"did you mean {close[0]}?" if close else f"its sources are {', '.join(names)}"
            raise RecipeError(f"{key}.weights: data.mixture has no source {name}; {mend}")
    missing = [name for name in names if name not in stage.weights]
    if missing:
        raise RecipeError(
            f"{key}.weights: {', '.join(missing)} has no weight; give it one, or 0 to leave it out"
        )
    if not any(stage.weights.values()):
        raise RecipeError(f"{key}.weights: all are 0; give some source a weight above 0")
    _check_sum(f"{key}.weights", stage.weights)
