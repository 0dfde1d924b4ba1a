"""Benchmarks of the data: from shards to packed batches, and from text to tokens, beside others."""
