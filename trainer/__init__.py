"""Lyceum: trains language models, from raw text to a measured model."""

__version__ = "0.1.0"
