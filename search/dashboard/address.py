"""What a dashboard says when it answers; `run` waits for it."""

from __future__ import annotations

ANNOUNCED = "dashboard: http://"
