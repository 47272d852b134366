"""Addresses in a search file: of a webhook, of experiment trackers."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

WEB_ADDRESS = "an address that begins with http:// or https://"

TRACKERS = ("tensorboard", "mlflow", "wandb")
"""Kinds of trackers; `search.trackers` has a sink for each."""
TRACKER_ADDRESS = "tensorboard:FOLDER, mlflow:FOLDER, mlflow:URI or wandb:FOLDER"


def is_web_address(text: str) -> bool:
    """Whether something can be posted there."""
    try:
        parts = urlsplit(text)
        named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    plain = text.isascii() and text.isprintable() and " " not in text
    return named and plain and parts.scheme in ("http", "https")


def is_tracker_address(text: str) -> bool:
    """Whether it names a kind of tracker and where it is."""
    kind, _, target = text.partition(":")
    if not target.strip() or not target.isprintable():
        return False
    return kind in TRACKERS and (kind == "mlflow" or "://" not in target)


def _web_address(text: str) -> str:
    if not is_web_address(text):
        raise PydanticCustomError("web_address", WEB_ADDRESS)
    return text


def _tracker_address(text: str) -> str:
    if not is_tracker_address(text):
        raise PydanticCustomError("tracker_address", TRACKER_ADDRESS)
    return text


WebAddress = Annotated[str, AfterValidator(_web_address)]
TrackerAddress = Annotated[str, AfterValidator(_tracker_address)]
