"""One small model on a raw corpus with planted defects, and on what our controls leave of it."""
