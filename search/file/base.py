"""What every section of a search file or a best.yaml is made from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from model.config.facts import STRICT


class Section(BaseModel):
    """Part of a file: unknown keys, conversions, NaN and infinity are errors."""

    model_config = ConfigDict(**STRICT, frozen=True)
