"""How often a trial's parameters were drawn again, and why; kept with the trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

_UNFIT, _REPEATED = "redrawn_unfit", "redrawn_repeated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Redrawn:
    """Draws before the one that the trial has.

    Args:
        unfit: made no network that may be trained.
        repeated: had been tried by an earlier trial.
    """

    unfit: int = 0
    repeated: int = 0

    @property
    def draws(self) -> int:
        return self.unfit + self.repeated

    def to_flat(self) -> dict[str, int]:
        """As user attributes; nothing for a first draw."""
        flat = {_UNFIT: self.unfit, _REPEATED: self.repeated}
        return {name: number for name, number in flat.items() if number}

    @classmethod
    def of_flat(cls, flat: Mapping[str, Any]) -> Self:
        """What is no count is taken as none."""
        found = (flat.get(name, 0) for name in (_UNFIT, _REPEATED))
        unfit, repeated = (n if type(n) is int and n > 0 else 0 for n in found)
        return cls(unfit=unfit, repeated=repeated)
