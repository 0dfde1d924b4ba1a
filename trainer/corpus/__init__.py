"""A corpus is made: raw documents are read, judged, deduplicated and written as shards."""
