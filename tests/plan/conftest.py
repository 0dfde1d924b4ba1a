"""The corpus of the runs whose plans are looked at: that of the training tests."""

from tests.training.conftest import corpus

__all__ = ["corpus"]
