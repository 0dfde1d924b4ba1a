"""`checkpoint` and `recovery`: what is kept, and when to give up."""

from trainer.recipe.section import Count, Positive, Section


class CheckpointSection(Section):
    """When checkpoints are written and how many stay."""

    every: Count = 0
    """Steps between checkpoints; 0: only at the end and on a stop."""
    keep: Count = 3
    """The newest that stay; 0: all."""
    save_final: bool = True
    """Whether the last step is saved."""
    best: str | None = None
    """The figure by which RUN/checkpoints/best is chosen: eval/loss (of evaluate.every) or
    eval/SUITE/FIGURE (of evaluate.suites). It is a link to the checkpoint of the best evaluation so
    far that passes every gate of evaluate.gates; that step is saved, and stays whatever `keep`
    says. One by other items, or by an older version of its suite, stays the best of a resumed run
    until another is promoted, which is not compared with it. None: there is no best."""


class RecoverySection(Section):
    """What happens when a loss or a gradient is not finite."""

    skipped_in_a_row: Positive = 5
    """Steps skipped one after another that end the run with exit code 4."""
