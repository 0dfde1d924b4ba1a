"""A run in progress: the state that the loop carries from step to step, and its operations."""

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from trainer.checkpoint.background import BackgroundSaver
from trainer.checkpoint.copies import CheckpointCopier
from trainer.checkpoint.lora_base import LoraBase
from trainer.data.batch import Batch
from trainer.data.mixture import changes_of_shares, phases_of_recipe, realised_shares
from trainer.errors import DataError, TrainingError
from trainer.evaluate.generate import Generator, Vocabulary
from trainer.evaluate.run_suites import RunSuites
from trainer.evaluate.sampling import Sampling
from trainer.model.transformer import LanguageModel
from trainer.parallel.agreement import Ranks, on_first_rank
from trainer.parallel.layout import Layout
from trainer.parallel.schedule import Losses, finalize_gradients
from trainer.parallel.zero import Optimizer, StepOutcome
from trainer.recipe import Recipe
from trainer.recovery import Heartbeat, LockedFolder
from trainer.saving import Saving
from trainer.sources import Sources
from trainer.stages import StageParts, create_stage
from trainer.stages.learning_rate import learning_rate
from trainer.stages.stage import FrozenCopy
from trainer.trace import position_behind, trace

_log = logging.getLogger(__name__)


@dataclass
class Counters:
    """How far a run is; saved with every checkpoint as JSON.

    `step`: attempted optimizer steps; `updates`: applied ones; `tokens` (without padding) and
    `supervised_tokens`: cumulative over all ranks; `guard`: skipped steps; `stream`: the data
    stream's position after the last step (None: at the beginning); `longest_sequence`: the largest
    sequence length over this stage and those before it; `averaged`: how many times weights entered
    their average; `spikes`: the figures of the last steps, against which a spike is held.
    """

    step: int = 0
    updates: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    guard: dict[str, int] = field(default_factory=lambda: {"skipped": 0, "in_a_row": 0})
    stream: dict[str, Any] | None = None
    longest_sequence: int = 0
    averaged: int = 0
    spikes: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Beginning:
    """A run's state at its first step, except weights and optimizer state.

    `counters`: of the checkpoint, or zeros; `lora_base`: the frozen checkpoint that the run's
    adapters are for, named in every checkpoint of the run (None where all weights train);
    `imported_files`: Hugging Face files of the imported model, by attachment name, which every
    checkpoint carries on for an export; `kept`: what the stage gave to the checkpoint, by name.
    """

    counters: Counters = field(default_factory=Counters)
    lora_base: LoraBase | None = None
    imported_files: Mapping[str, bytes] = field(default_factory=dict)
    kept: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class StepCounts:
    """What all ranks know of a step before it runs: counts over the global batch, and any stop.

    `tokens`: without padding; `supervised`: tokens with a label; `weight`: the loss's denominator,
    supervised tokens or pairs; `stop`: whether a rank was asked to stop.
    """

    tokens: int
    supervised: int
    weight: int
    stop: bool


class Run:
    """Model, optimizer, data and counters of one run on this rank.

    `recipe`: resolved; `layout`: this rank's groups; `sources`: the opened corpora and tokenizer;
    `chunks`: this rank's model chunks, one unless the pipeline is interleaved; `optimizer`: theirs;
    both already restored; `beginning`: the rest of the state to start from; `suites`: those that
    are measured while it trains; `base_weights`: a block in which the model has the weights that
    the run started from; `frozen`: a second copy of those, where the stage compares with one;
    `heartbeat`: where this rank says what it does; `place`: the locked run directory, on the rank
    that reports; `left_out`: batches of the data's order that are not read before a step; `saver`:
    writes checkpoints in the background; `copier`: copies them elsewhere, on the first rank.

    `saving`: the run's checkpoints; `notes`: what the next step's record has to say of what came
    before it. `lost` tells whether the directory was seen to be taken away: it is another's now.
    """

    def __init__(
        self,
        recipe: Recipe,
        layout: Layout,
        sources: Sources,
        chunks: list[LanguageModel],
        optimizer: Optimizer,
        beginning: Beginning,
        suites: RunSuites | None = None,
        base_weights: Callable[[], AbstractContextManager[None]] = nullcontext,
        frozen: FrozenCopy | None = None,
        *,
        heartbeat: Heartbeat,
        place: LockedFolder | None,
        left_out: Mapping[int, int],
        saver: BackgroundSaver,
        copier: CheckpointCopier | None,
    ) -> None:
        self._heartbeat, self._place = heartbeat, place
        self._left_out = left_out
        self.notes: dict[str, Any] = {}
        self.lost = False
        self.recipe = recipe
        self.layout = layout
        self.tokenizer = sources.tokenizer
        self.chunks = chunks
        self.optimizer = optimizer
        self.suites = suites
        self.base_weights = base_weights
        self.counters = counters = beginning.counters
        counters.longest_sequence = max(counters.longest_sequence, recipe.sequence_length)
        self.folder = Path(recipe.run)
        self.stage = create_stage(
            StageParts(recipe, layout, sources, chunks, counters.step, beginning.kept, frozen)
        )
        self._position = counters.stream
        self._stream = self.stage.open_stream(counters.stream)
        self._curriculum = phases_of_recipe(recipe)
        self._names = recipe.data.names() or ("corpus",)
        self.saving = Saving(self, saver, beginning.lora_base, beginning.imported_files, copier)

    @property
    def step(self) -> int:
        """Optimizer steps attempted so far."""
        return self.counters.step

    def next_batch(self) -> Batch:
        """This rank's rows of the next global batch, int64 [rows, sequence] on the host."""
        self._says("data")
        if batches := self._left_out.get(self.step + 1):
            self._leave_out(batches)
        return next(self._stream)

    def _leave_out(self, batches: int) -> None:
        """Go on with the data behind so many global batches, of which nothing is read.

        The counters' position stays what it is until the step is done: a run that is stopped before
        leaves out as much when it goes on.
        """
        sequences = batches * self.recipe.batch.sequences
        position = position_behind(self.stage.stream_arguments(), self.counters.stream, sequences)
        self._stream.close()
        self._position, self._stream = position, self.stage.open_stream(position)
        self.notes["left_out_batches"] = batches
        _log.warning("before step %d: %d batches of data are left out", self.step + 1, batches)

    @property
    def heartbeat(self) -> Heartbeat:
        """Where this rank says what it does."""
        return self._heartbeat

    def _says(self, phase: str) -> None:
        """Say that a phase of the next step begins."""
        self._heartbeat.beat(phase, self.step + 1)

    def _says_behind(self, phase: str) -> None:
        """Say that something behind the last step begins."""
        self._heartbeat.beat(phase, self.step)

    def count(self, batch: Batch, stop: bool) -> StepCounts:
        """Sum the batch's counts and stop requests over all ranks, in one all-reduce on the hosts.

        Raises DataError where the global batch has nothing to learn from, TrainingError where the
        run directory is no longer the run's.
        """
        self._says("counting")
        tokens = batch.tokens.numel() - batch.padding
        fault = self._place.fault() if self._place else None
        own = [tokens, batch.supervised, self.stage.weight_of(batch), int(stop)]
        own += [int(bool(fault)), int(self.saving.spoilt)]
        sums = torch.tensor(own, dtype=torch.float64)
        dist.all_reduce(sums, group=self.layout.hosts)
        if sums[-2]:
            self._refuse_folder(fault)
        if sums[-1]:
            self.saving.finish()  # which raises
        # Every rank of a replica read the same rows.
        copies = self.layout.world_size // self.layout.data.size
        tokens, supervised, weight, stops, *_ = (int(total) for total in sums.tolist())
        if not weight:
            self._refuse(batch)
        return StepCounts(tokens // copies, supervised // copies, weight // copies, stops > 0)

    def _refuse(self, batch: Batch) -> None:
        """Raise DataError for a batch without a target, naming the examples that made it."""
        entries = trace(
            self.stage.stream_arguments(),
            self.recipe.batch.sequences,
            step=1,
            state=self._position,
        )
        names = list(dict.fromkeys(entry.document_id for entry in entries))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise DataError(
            f"step {self.step + 1}: no token of its batch is supervised; it is made of"
            f" {', '.join(names[:3])}{more}: see conversations.template and too_long"
        )

    def require_folder(self) -> None:
        """Raise TrainingError where the run directory is no longer the run's; collective."""

        def look() -> None:
            if self._place and (fault := self._place.fault()):
                self._refuse_folder(fault)

        on_first_rank(Ranks(self.layout.hosts), look)

    def _refuse_folder(self, fault: str | None) -> NoReturn:
        self.lost = True
        raise TrainingError(
            f"run {self.folder} {fault or 'is not its own any more'}; nothing more is written "
            f"after step {self.step}: put it back, and the same command goes on"
        )

    def forward_backward(self, batch: Batch, counts: StepCounts) -> Losses:
        """Run all micro-batches forward and backward; gradients end up averaged over replicas."""
        self._says("forward and backward")
        with self.optimizer.accumulate():
            # A fill, since copying one number from the host would synchronise.
            weight = torch.full((), float(counts.weight), device=self.layout.device)
            losses = self.stage.run(batch, weight)
            finalize_gradients(self.chunks, self.layout, losses)
        return losses

    def update(self) -> tuple[StepOutcome, float]:
        """Apply the gradients at this step's learning rate, which is returned too."""
        self._says("update")
        rate = learning_rate(self.recipe, self.step + 1)
        outcome = self.optimizer.step(rate)
        average = self.recipe.checkpoint.average
        if average is not None and average.enters(self.step + 1, self.recipe.steps):
            self.optimizer.average(outcome)
        return outcome, rate

    def advance(self, batch: Batch, counts: StepCounts) -> None:
        """Count the step and its batch as done."""
        self.counters.step += 1
        self.counters.tokens += counts.tokens
        self.counters.supervised_tokens += counts.supervised
        before = self.counters.stream
        for line in changes_of_shares(self._curriculum, self._names, before, batch.state):
            _log.info("after step %d: %s", self.step, line)
        self.counters.stream = self._position = batch.state

    def mixture_shares(self) -> dict[str, float]:
        """`mixture/NAME`: each source's fraction of all sequences so far; {} with one source."""
        assert self.counters.stream is not None, "a step has been made"
        return realised_shares(self.counters.stream, self._names)

    def validate(self) -> dict[str, float]:
        """Figures over the recipe's validation sequences, the same at every layout."""
        self._says_behind("evaluation")
        return self.stage.validate()

    def sample(self) -> list[tuple[str, str]]:
        """(prompt, generated continuation) of the recipe's prompts, sampled by (seed, step)."""
        self._says_behind("generation")
        section, tokenizer = self.recipe.evaluate, self.tokenizer
        sampling = Sampling(
            section.sample_tokens,
            section.temperature,
            section.top_k,
            section.top_p,
            seed=self.recipe.seed + self.step,
        )
        vocabulary = Vocabulary.of(tokenizer)
        write = Generator(self.chunks, self.recipe, self.layout, vocabulary)
        prompts = [tokenizer.encode(prompt) for prompt in section.prompts]
        written = write(prompts, sampling)
        texts = list(map(tokenizer.decode_behind, prompts, written))
        return list(zip(section.prompts, texts, strict=True))

    @property
    def skipping(self) -> bool:
        """Whether the last step that was read was skipped: its loss or gradient was not finite."""
        return self.counters.guard["in_a_row"] > 0

    def close(self) -> None:
        """Stop the data workers."""
        self._stream.close()
