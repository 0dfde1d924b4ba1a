"""Corpora behind s3://, https:// and http://: where they lie, how they come and are kept."""
