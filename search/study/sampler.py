"""Optuna's sampler as every worker of a search makes it."""

from __future__ import annotations

import hashlib

import optuna

STARTUP_TRIALS = 10
"""Trials that are drawn at random before TPESampler learns from them (Optuna's default)."""


def new_sampler(seed: int, rank: int) -> optuna.samplers.TPESampler:
    """Optuna's TPESampler with a seed of this worker's own.

    Workers with one seed would draw the same start-up points, each of them.  A search
    with one worker draws the same points when it is repeated from the start.

    Args:
        seed: the search file's.
        rank: workers that entered the study before.
    """
    digest = hashlib.sha256(f"{seed}/{rank}".encode()).digest()
    seed_of_rank = int.from_bytes(digest[:4], "big")
    return optuna.samplers.TPESampler(seed=seed_of_rank, n_startup_trials=STARTUP_TRIALS)
