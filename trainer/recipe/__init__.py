"""The recipe: frozen and typed, one file a section; load, override, validate."""

from trainer.recipe.changes import learning_changes, learning_digest
from trainer.recipe.checkpoint import CheckpointSection, RecoverySection
from trainer.recipe.corpus import CorpusSection
from trainer.recipe.data import DataSection, MixtureSource
from trainer.recipe.evaluate import EvaluateSection
from trainer.recipe.fine_tuning import ConversationsSection, PreferenceSection
from trainer.recipe.kernels import KernelsSection
from trainer.recipe.load import load_recipe
from trainer.recipe.lora import LoraSection
from trainer.recipe.loss import LossSection
from trainer.recipe.model import ModelSection, RopeScaling
from trainer.recipe.observe import ObserveSection, ProfileSection
from trainer.recipe.optimizer import OptimizerSection, ScheduleSection
from trainer.recipe.parallel import BatchSection, ParallelSection, ZeroSection
from trainer.recipe.recipe import Recipe
from trainer.recipe.reinforce import ReinforceSection

__all__ = [
    "BatchSection",
    "CheckpointSection",
    "ConversationsSection",
    "CorpusSection",
    "DataSection",
    "EvaluateSection",
    "KernelsSection",
    "LoraSection",
    "LossSection",
    "MixtureSource",
    "ModelSection",
    "ObserveSection",
    "OptimizerSection",
    "ParallelSection",
    "PreferenceSection",
    "ProfileSection",
    "Recipe",
    "RecoverySection",
    "ReinforceSection",
    "RopeScaling",
    "ScheduleSection",
    "ZeroSection",
    "learning_changes",
    "learning_digest",
    "load_recipe",
]
