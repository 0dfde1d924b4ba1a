"""From documents to batches: corpora, shards, and an exact, elastic stream of packed sequences."""
