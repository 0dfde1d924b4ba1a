"""Instructions that can be checked exactly: a function of the answer's text for each kind."""

from collections.abc import Callable, Mapping

from trainer.evaluate.suites.instruction_kinds.amounts import AMOUNTS
from trainer.evaluate.suites.instruction_kinds.formats import FORMATS
from trainer.evaluate.suites.instruction_kinds.wording import WORDING

InstructionCheck = Callable[..., bool]
"""Whether an answer (a text that is not blank) follows an instruction with these arguments."""

CHECKS: Mapping[str, InstructionCheck] = {**AMOUNTS, **WORDING, **FORMATS}
"""The check of each kind, by its name."""
