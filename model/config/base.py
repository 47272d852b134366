"""What both configurations share: how they are checked and how they refuse.

A field's own type and range are pydantic's business; what several fields must be
together is a `Rule`.  Both refuse with one sentence that says which fields it is about.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast, dataclass_transform

from pydantic import ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from model.config.facts import STRICT, facts_of, refusal
from model.errors import BadField
from nkat_errors import nearest

C = TypeVar("C", bound="Config")


class Rule:
    """What several fields must be together.

        @Rule
        def heads_divide(embed_dim: int, heads: int) -> str | None:
            ...  # the sentence if they do not, else None

    The names of the parameters are the fields that it is about, the likeliest culprit first.
    """

    __slots__ = ("_check", "fields")

    def __init__(self, check: Callable[..., str | None]) -> None:
        self._check = check
        self.fields: tuple[str, ...] = tuple(inspect.signature(check).parameters)

    def why_not(self, values: Mapping[str, Any]) -> str | None:
        """Why these values are refused, in one sentence; None when they fit.

        Args:
            values: by field; others than the rule's own are not looked at.
        """
        return self._check(**{name: values[name] for name in self.fields})


class Config:
    """A frozen value of checked fields; `configuration` makes one of a subclass."""

    __slots__ = ()
    RULES: ClassVar[tuple[Rule, ...]] = ()
    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __post_init__(self) -> None:
        for rule in self.RULES:
            why = rule.why_not({name: getattr(self, name) for name in rule.fields})
            if why is not None:
                raise BadField(why, fields=rule.fields)

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, in plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration of these fields, the others being the defaults.

        Raises:
            BadField: an unknown key, or a value out of range.
        """
        return cls(**values)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def configuration(cls: type[C]) -> type[C]:
    """Makes a frozen, slotted dataclass whose fields pydantic checks.

    The class raises `BadField` when it is made with an unknown name, a value that its
    field cannot have, or values that break one of its `RULES`.
    """
    made = cast(
        type[C], pydantic_dataclass(cls, frozen=True, slots=True, kw_only=True, config=STRICT)
    )
    check = made.__init__

    @functools.wraps(check)
    def init(self: C, **values: Any) -> None:
        try:
            check(self, **values)
        except ValidationError as error:
            raise _refusal(made, error) from None

    made.__init__ = init  # type: ignore[assignment,method-assign]
    return made


def _refusal(config: Any, error: ValidationError) -> BadField:
    facts = facts_of(config)
    first = error.errors(include_url=False, include_context=False)[0]
    name = str(first["loc"][0])
    if name not in facts:
        text = f"unknown key {name!r} for {config.__name__}{nearest(name, facts)}"
    else:
        text = str(refusal(facts[name].info, name=name, value=first["input"]))
    return BadField(text, fields=(name,))
