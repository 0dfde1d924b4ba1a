"""Inspecting a corpus: contents, data card, search for a passage, check against the manifest."""
