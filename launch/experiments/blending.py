"""A blend of a model with its base, as an experiment measures it: made once, of these two."""

from pathlib import Path

from launch.experiments.made_of import require_made_of
from trainer.merging.command import merge_checkpoints


def blend(base: Path, cured: Path, share: float, into: Path) -> None:
    """Make `into`, with `share` of `cured` in it and the rest of `base`, unless it is there.

    Raises RecipeError where it was made of something else, and what `merge_checkpoints` raises.
    """
    require_made_of(into, {"weights": [1 - share, share]}, [base, cured])
    if not any((into / "checkpoints").glob("step-*")):
        merge_checkpoints([base, cured], [1 - share, share], into)
