"""`batch`: how much is read a step."""

from trainer.recipe.section import Positive, Section


class BatchSection(Section):
    """The global batch, and the piece of it that passes the model at once."""

    sequences: Positive
    """Packed sequences a step, over all ranks."""
    micro: Positive = 1
    """Packed sequences a rank takes through the model at once; changes memory, not learning."""
