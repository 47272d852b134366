"""What a best.yaml says of the finalists of its search."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from search.file.base import Section


class BestFinalist(Section):
    """A finalist that was not counted out; scores are Global TPE scores."""

    trial: int = Field(ge=0)
    score: float = Field(ge=0)
    scores: list[float] = Field(min_length=1)
    mean: float = Field(ge=0)
    probability: float | None = Field(ge=0, le=1)


class BestCountedOut(Section):
    """A finalist one of whose new runs did not reach the end, and why."""

    trial: int = Field(ge=0)
    score: float = Field(ge=0)
    why: str


class BestFinalists(Section):
    """The new runs of the search's best trials, the best mean first
    (`search.study.finalists`)."""

    runs: int = Field(ge=1)
    open: Literal[0]
    seconds: float = Field(ge=0)
    deviation: float | None = Field(ge=0)
    ranked: list[BestFinalist] = Field(min_length=1)
    out: list[BestCountedOut] = Field(default_factory=list)

    def sentence(self, trial: int) -> str:
        """What the new runs say of a trial; empty where it is no finalist."""
        for rank, one in enumerate(self.ranked, start=1):
            if one.trial == trial:
                sure = "?" if one.probability is None else f"{100 * one.probability:.0f} %"
                return (
                    f"Run {len(one.scores)} more times: mean Global TPE score {one.mean:.4f}, "
                    f"place {rank} of {len(self.ranked)} finalists (the best one with a "
                    f"probability of {sure})."
                )
        return ""
