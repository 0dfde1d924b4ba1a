"""What a report reads of runs: as it lies on disk, in bounded memory; nothing is drawn here."""
