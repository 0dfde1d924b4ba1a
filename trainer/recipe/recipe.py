"""The recipe: everything a run depends on, in one frozen object."""

from typing import Any, Literal, Self, get_args

from pydantic import model_validator

from trainer.addresses import redacted_values
from trainer.recipe import reading, rules
from trainer.recipe.checkpoint import CheckpointSection, RecoverySection
from trainer.recipe.corpus import CorpusSection
from trainer.recipe.data import DataSection
from trainer.recipe.evaluate import EvaluateSection
from trainer.recipe.fine_tuning import ConversationsSection, PreferenceSection
from trainer.recipe.kernels import KernelsSection
from trainer.recipe.lora import LoraSection
from trainer.recipe.loss import LossSection
from trainer.recipe.model import ModelSection
from trainer.recipe.observe import ObserveSection, ProfileSection
from trainer.recipe.optimizer import OptimizerSection, ScheduleSection
from trainer.recipe.own_sets import with_own_entries
from trainer.recipe.parallel import BatchSection, ParallelSection, ZeroSection
from trainer.recipe.recompute import Recompute, parts_of
from trainer.recipe.reinforce import ReinforceSection
from trainer.recipe.section import Count, Names, Positive, Section
from trainer.recipe.stages import STAGES, StageName, StageTraits

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class Recipe(Section):
    """One training stage, described completely; saved with the run as recipe.yaml."""

    stage: StageName = "pretrain"
    """What is learned: text; the answers in conversations; which of two answers is better; answers
    that earn a reward."""
    run: str
    """The run directory, relative to the working directory."""
    seed: Count = 1234
    """Where all randomness starts."""
    steps: Positive
    """Optimizer steps of the whole run."""
    sequence_length: Positive
    """Tokens in a packed sequence."""
    tokenizer: str | None = None
    """A Hugging Face tokenizer folder, or where there is none of that name, one of the hub, as
    org/name or org/name@revision; none: the corpus's own."""
    init_from: str | None = None
    """A checkpoint whose weights the run starts from, with a fresh optimizer."""
    added_tokens: Names = ()
    """Tokens to add to the tokenizer of `init_from`, as transformers' `add_tokens`: found in any
    text. The embedding grows by a row for each, up to a multiple of parallel.tensor, unless it has
    rows to spare (model.vocab sets another number). A new row, of an untied output projection too,
    starts as the mean of the rows of the tokens that were there. The tokenizer is saved and
    exported with them. Under `lora`, name embed_tokens and lm_head in lora.modules_to_save, or the
    new rows would never learn."""
    added_special_tokens: Names = ()
    """The same for special tokens, as `add_special_tokens`: found where a chat template writes
    them, never in what a user wrote. Of both lists a token that the vocabulary has keeps its id and
    its row; what is special in the base stays special."""
    resume: str = "auto"
    """`auto`: from the run's newest checkpoint; `never`: there may be none; or a checkpoint."""
    precision: Precision = "fp32"
    """Type of weights and activations; masters, accumulation, reduction and loss are fp32."""
    recompute: Recompute = "none"
    """Which activations are computed again in the backward pass instead of kept: none, full,
    attention, mlp, a list of norms, swiglu, attention and mlp, or `auto`: the quickest choice that
    fits the device's memory, measured when a run starts."""
    offload: Literal["none", "activations"] = "none"
    """`activations`: what backward needs of each layer waits in host memory (the optimizer's state:
    `zero.offload`)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes CUDA where there is one."""
    model: ModelSection
    """The shape of the transformer; left out of the file, that of `init_from`."""
    loss: LossSection = LossSection()
    """What `stage: pretrain` and `sft` minimise."""
    batch: BatchSection
    """How much is read a step."""
    parallel: ParallelSection = ParallelSection()
    """Sizes of the parallel axes."""
    zero: ZeroSection = ZeroSection()
    """What data-parallel ranks share."""
    optimizer: OptimizerSection
    """How weights move."""
    schedule: ScheduleSection = ScheduleSection()
    """The learning rate over the steps."""
    data: DataSection = DataSection()
    """The stream of packed sequences."""
    corpus: CorpusSection | None = None
    """How the recipe's own corpus is built; none: `data.mixture` names built ones."""
    conversations: ConversationsSection = ConversationsSection()
    """How the sets of `stage: sft` and `preference` become tokens."""
    preference: PreferenceSection = PreferenceSection()
    """What `stage: preference` minimises."""
    reinforce: ReinforceSection = ReinforceSection()
    """What `stage: reinforce` asks, rewards and minimises."""
    lora: LoraSection | None = None
    """Train low-rank adapters on the frozen weights of `init_from`; none: all weights."""
    checkpoint: CheckpointSection = CheckpointSection()
    """When checkpoints are written and how many stay."""
    evaluate: EvaluateSection = EvaluateSection()
    """What is measured while training."""
    kernels: KernelsSection = KernelsSection()
    """Which implementation of an operator runs."""
    profile: ProfileSection = ProfileSection()
    """When the profiler records."""
    observe: ObserveSection = ObserveSection()
    """Where a run's numbers go."""
    recovery: RecoverySection = RecoverySection()
    """What happens when something goes wrong."""

    @model_validator(mode="before")
    @classmethod
    def _own_sets_are_read(cls, keys: Any) -> Any:
        return with_own_entries(keys)

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        rules.check_recipe(self)
        return self

    def validate_world(self, world_size: int, device: str) -> None:
        """Raise RecipeError unless the recipe can run on `world_size` ranks of "cpu" or "cuda"."""
        rules.check_world(self, world_size, device)

    def fitting_world(self, available: int, device: str) -> int:
        """How many of `available` ranks train, with `recovery.minimum_replicas` maybe not all.

        Raises RecipeError where none may.
        """
        return rules.fitting_world(self, available, device)

    @property
    def stage_traits(self) -> StageTraits:
        """What is to know of the recipe's stage."""
        return STAGES[self.stage]

    @property
    def recomputed(self) -> frozenset[str]:
        """The parts of a layer that the backward pass recomputes, "full" alone for all of it."""
        return parts_of(self.recompute)

    def data_parallel(self, world_size: int) -> int:
        """Replicas of the model that read different sequences, on `world_size` ranks."""
        return world_size // self.parallel.model_ranks

    def sharding(self, world_size: int) -> int:
        """The ZeRO stage that runs on `world_size` ranks.

        1 and 2 are 0 where one replica has nobody to share with: our own optimizer then runs, which
        keeps no second copies and makes no step wait.
        """
        alone = self.data_parallel(world_size) * self.parallel.context == 1
        idle = alone and self.zero.stage < 3 and self.zero.offload == "none"
        return 0 if idle else self.zero.stage

    def micro_batches(self, world_size: int) -> int:
        """Micro-batches that each replica takes through the model a step."""
        return self.batch.sequences // (self.data_parallel(world_size) * self.batch.micro)

    def to_yaml(self) -> str:
        """The resolved recipe, every key written out; its addresses without their secrets, which
        whoever runs it again has in a recipe of their own.
        """
        return reading.written(redacted_values(self.model_dump(mode="json")))

    @classmethod
    def from_yaml(cls, text: str, source: str = "recipe") -> "Recipe":
        """Read what `to_yaml` wrote; raises RecipeError, which calls the text `source`."""
        return reading.validated(cls, reading.parse(text, source), source)

    @classmethod
    def from_keys(cls, keys: dict[str, Any], source: str = "recipe") -> "Recipe":
        """Build from nested keys; raises RecipeError, which calls them `source`."""
        return reading.validated(cls, keys, source)

    def replaced(self, values: dict[str, Any]) -> "Recipe":
        """This recipe with other values, by a key's dotted name; raises RecipeError."""
        keys = self.model_dump(mode="json")
        reading.set_values(keys, values)
        return type(self).from_keys(keys)
