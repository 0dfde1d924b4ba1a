"""Facts that a corpus states: found in its sentences, and counted."""
