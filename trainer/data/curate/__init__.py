"""Curation: the rules a document must pass, run as one chain on datatrove, with an audit trail."""
