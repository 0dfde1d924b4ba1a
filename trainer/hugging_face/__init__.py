"""Hugging Face model folders, read and written: names, configuration, weights, proof of parity."""
