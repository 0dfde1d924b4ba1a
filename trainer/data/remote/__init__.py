"""Corpora behind s3://, https:// and http://: URLs, transfers, and the local cache."""
