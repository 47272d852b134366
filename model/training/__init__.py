"""One training run: trainer, steps, state, optimizers, schedule."""
