"""RUN/average: the average of a run's weights as a checkpoint that every command opens.

It is a run directory with one checkpoint: that of the newest step which the run itself saved.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.checkpoint.folders import list_checkpoints, remove_atomically
from trainer.checkpoint.format import AVERAGE, Piece
from trainer.parallel.sharding import sharded_parameters
from trainer.parallel.zero import Optimizer

if TYPE_CHECKING:
    from trainer.model.transformer import LanguageModel


def average_pieces(chunks: list["LanguageModel"], optimizer: Optimizer) -> Iterator[Piece]:
    """The averages as the weights of a model, fp32; of adapters where only these learn.

    Collective over replicas: every rank must consume the whole iterator.
    """
    for parameter, sharding in sharded_parameters(chunks):
        if not parameter.requires_grad:
            continue
        average = optimizer.state(parameter)[AVERAGE]
        for box in sharding.boxes if sharding.writes else ():
            data = box.of(average).detach()
            yield Piece(f"model/{sharding.name}", box.global_shape, box.offset, data)


def remove_others(run: Path, step: int) -> None:
    """Remove the averages of other steps, also of later ones, which a resume has given up.

    Call it on one rank.
    """
    for listed in list_checkpoints(run / AVERAGE):
        if listed.step != step:
            remove_atomically(listed.path)
