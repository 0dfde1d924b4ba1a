"""The corpus of the runs that are watched: that of the training tests."""

from tests.training.conftest import corpus

__all__ = ["corpus"]
