"""Evaluation of a trained model: perplexity, sampling, generation, chat."""
