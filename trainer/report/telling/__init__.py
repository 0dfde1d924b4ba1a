"""What a report says of runs: from what was read to the sections of a page."""
