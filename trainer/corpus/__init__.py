"""Making a corpus: raw documents are read, filtered, deduplicated, tokenized, put in shards."""
