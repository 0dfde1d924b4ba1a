"""NEFTune: noise on the embeddings, the same at every layout and after every resume."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from kernels.launch import sent
from trainer.model.micro_batches import MicroBatch
from trainer.model.transformer import LanguageModel
from trainer.parallel.layout import Layout
from trainer.recipe import Recipe


class EmbeddingNoise:
    """Adds uniform noise to the first stage's embeddings during training.

    A token of a segment of n tokens gets noise within alpha / sqrt(n x hidden) on each channel
    (Jain et al., arXiv:2310.05914); n is counted for each segment of a packed row. A row's noise
    depends on the seed and the row's index in the run only. It hooks the embedding of those
    `chunks` that have one; `prepare` must run before each of their forward passes.
    """

    def __init__(self, chunks: list[LanguageModel], recipe: Recipe, layout: Layout) -> None:
        self._alpha = recipe.conversations.neftune_alpha
        self._seed, self._hidden = recipe.seed, recipe.model.hidden
        self._sequence_parallel, self._layout = recipe.parallel.sequence, layout
        self._noise: Tensor | None = None
        for chunk in chunks:
            if chunk.pre_process:
                chunk.embedding.register_forward_hook(self._add)

    def prepare(self, micro: MicroBatch) -> None:
        """Draw the micro-batch's noise, where this rank has the embedding."""
        if not self._layout.first_stage:
            return
        positions = micro.layout.on_host
        assert positions is not None, "what is trained on comes from the host"
        rows = [
            self._row(number, row) for number, row in zip(micro.sequences, positions, strict=True)
        ]
        whole = sent(torch.stack(rows, dim=1), self._layout.device)
        noise = whole[micro.places]  # [sequence / context, batch, hidden]
        if self._sequence_parallel:
            noise = noise.chunk(self._layout.tensor.size)[self._layout.tensor.rank]
        self._noise = noise

    def _row(self, number: int, position_ids: Tensor) -> Tensor:
        """The noise of a whole row, fp32 [sequence, hidden], drawn on the CPU.

        `position_ids`: int64 [sequence], on the host.
        """
        digest = hashlib.sha256(f"{self._seed}/neftune/{number}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        drawn = torch.rand(len(position_ids), self._hidden, generator=generator) * 2 - 1
        segments = (position_ids == 0).cumsum(0) - 1
        lengths = torch.bincount(segments)[segments].float()
        bound = self._alpha / (lengths * self._hidden).sqrt()
        return drawn * bound[:, None]

    def _add(self, module: torch.nn.Module, _inputs: Any, embedded: Tensor) -> Tensor:
        if self._noise is None or not module.training:
            return embedded
        noise, self._noise = self._noise, None
        return embedded + noise.to(embedded.dtype)
