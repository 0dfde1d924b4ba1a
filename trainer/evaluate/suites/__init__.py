"""The built-in suites: truth, fairness, and what a cure may ruin, measured without a network."""

from importlib import import_module

from trainer.evaluate.suites.suite import Suite

MODULES = {
    "perplexity": "trainer.evaluate.suites.perplexity",
    "occurrence": "trainer.evaluate.suites.occurrence",
    "known-unknown": "trainer.evaluate.suites.known_unknown",
    "calibration": "trainer.evaluate.suites.calibration",
    "groundedness": "trainer.evaluate.suites.groundedness",
    "bias": "trainer.evaluate.suites.bias",
    "memorisation": "trainer.evaluate.suites.memorisation",
    "instructions": "trainer.evaluate.suites.instructions",
}
"""The module of each suite, which defines SUITE; loaded when it is asked for."""


def load_suite(name: str) -> Suite:
    """The suite called `name`, one of MODULES."""
    suite: Suite = import_module(MODULES[name]).SUITE
    return suite
