"""`lyceum demo`: corpus, training and fine-tuning on this machine's own documentation."""
