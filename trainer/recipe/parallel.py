"""`parallel` and `zero`: how ranks share the work; data parallelism is what is left."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.recipe.section import Positive, Section


class BatchSection(Section):
    """The global batch, and the piece of it that passes the model at once."""

    sequences: Positive
    """Packed sequences a step, over all ranks; of `stage: reinforce` answers, packed into fewer."""
    micro: Positive = 1
    """Packed sequences a rank takes through the model at once; changes memory, not learning."""


class ParallelSection(Section):
    """Sizes of the parallel axes."""

    tensor: Positive = 1
    """Ranks that share each matrix."""
    sequence: bool = False
    """Whether the tensor ranks also share the activations between the matrices."""
    pipeline: Positive = 1
    """Ranks in a row, each holding a stretch of the layers."""
    virtual: Positive = 1
    """Stretches of layers a pipeline rank holds; above 1, the interleaved schedule."""
    context: Positive = 1
    """Ranks that share each sequence."""

    @property
    def model_ranks(self) -> int:
        """Ranks that hold and feed one replica: tensor x pipeline x context."""
        return self.tensor * self.pipeline * self.context


class ZeroSection(Section):
    """DeepSpeed ZeRO: what the data-parallel ranks share instead of holding copies."""

    stage: Annotated[int, Field(ge=0, le=3)] = 1
    """0: nothing, 1: optimizer state, 2: and gradients, 3: and parameters. A single replica has
    nobody to share with: there 1 and 2 are 0."""
    offload: Literal["none", "optimizer"] = "none"
    """`optimizer` keeps the optimizer's state in host memory."""
