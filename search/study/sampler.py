"""The sampler of a search, as every worker makes it."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from typing import TYPE_CHECKING

import optuna

from nkat_errors import BadInput, nearest
from search.study.redraw import RedrawSampler

STARTUP_TRIALS = 10
"""Trials that are drawn at random before TPESampler learns from them (Optuna's default)."""

if TYPE_CHECKING:
    from search.file.search_file import SearchFile


def new_sampler(search: SearchFile, rank: int) -> RedrawSampler:
    """The file's sampler with a seed of this worker's own, drawing again what is of no use.

    Workers with one seed would draw the same start-up points, each of them.  A search
    with one worker draws the same points when it is repeated from the start.

    Args:
        search: its seed, sampler and space.
        rank: workers that entered the study before.

    Raises:
        BadInput: there is no such sampler, or it refuses its options.
    """
    digest = hashlib.sha256(f"{search.seed}/{rank}".encode()).digest()
    seed_of_rank = int.from_bytes(digest[:4], "big")
    return RedrawSampler(
        inner=_named(search, seed_of_rank),
        random=optuna.samplers.RandomSampler(seed=seed_of_rank),
        space=search.space,
        why_infeasible=search.why_infeasible,
        duplicate=search.sampler.duplicate,
    )


def _named(search: SearchFile, seed: int) -> optuna.samplers.BaseSampler:
    name, options = search.sampler.name, dict(search.sampler.options)
    made = _class_of(name)
    if "seed" in inspect.signature(made).parameters:
        options.setdefault("seed", seed)
    try:
        return made(**options)
    except (TypeError, ValueError, ImportError) as error:
        raise BadInput(
            f"sampler.name = {name!r} cannot be made with the options {options}: {error}"
        ) from error


def _class_of(name: str) -> type[optuna.samplers.BaseSampler]:
    module, _, member = name.rpartition(":")
    try:
        found = getattr(importlib.import_module(module or "optuna.samplers"), member)
    except ImportError as error:
        raise BadInput(f"sampler.name = {name!r}: {error}") from error
    except AttributeError:
        known = [one for one in optuna.samplers.__all__ if one.endswith("Sampler")]
        hint = "" if module else nearest(member, known)
        raise BadInput(f"sampler.name = {name!r}: there is no such class{hint}") from None
    if not (isinstance(found, type) and issubclass(found, optuna.samplers.BaseSampler)):
        raise BadInput(f"sampler.name = {name!r}: it is no Optuna sampler")
    return found
