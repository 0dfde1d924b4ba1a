"""Merging: the weights of several checkpoints as one, by their weighted mean."""
