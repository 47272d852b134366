"""What a field says about itself, for those who write it down or ask for it.

A field is defined once, in its configuration:

    cutout: Annotated[int, Field(ge=0, description="side of ..."), Unit("pixels")] = 8

and read from there for error sentences, the search file, its schema and `--help`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from model.errors import BadField
from nkat_errors import near_miss

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""Unknown names, conversions (`"5"` for 5, true for 1), NaN and infinity are errors."""

_NOUNS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number"}


@dataclass(frozen=True, slots=True)
class Unit:
    """What a field's number counts, such as `pixels`."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FieldFacts:
    """One field of a configuration.

    Args:
        name: of the field.
        info: what pydantic knows of it.
        annotation: its type with its range, as pydantic takes it.
        default: the value of a field that is left out.
        help: what it is, without range and unit.
        kind: `bool`, `int`, `float`, or `str` for one of `choices`.
        choices: every value, where the field has a list of them.
        nullable: None is a value too.
        range: `>= 1`, `in (0, 1]` and the like; empty without bounds.
        unit: what the number counts; empty for a pure number.
        rule: what a value must be, such as `null or a whole number >= 1`.
    """

    name: str
    info: FieldInfo
    annotation: Any
    default: Any
    help: str
    kind: type
    choices: tuple[str, ...]
    nullable: bool
    range: str
    unit: str
    rule: str

    def checked(self, value: Any, *, name: str | None = None) -> Any:
        """The value, as the field holds it.

        Args:
            value: to be checked.
            name: how the user knows the field (a key path); its own name by default.

        Raises:
            BadField: the field cannot have it; with name, value and rule.
        """
        try:
            return _adapter(self).validate_python(value)
        except ValidationError:
            text = refusal(self.info, name=name or self.name, value=value)
            raise BadField(str(text), fields=(self.name,)) from None


@functools.cache
def facts_of(config: type[Any]) -> dict[str, FieldFacts]:
    """Every field of a configuration, by name, in their order."""
    infos: dict[str, FieldInfo] = config.__pydantic_fields__
    hints = get_type_hints(config, include_extras=True)
    return {name: _facts(name, hints[name], info) for name, info in infos.items()}


def refusal(info: FieldInfo, *, name: str, value: object) -> str | None:
    """Why any pydantic field refuses a value, in one sentence; None where the field is no
    plain number, boolean or choice, for which this module has no words."""
    rule = _rule(info)
    if rule is None:
        return None
    kind, _ = _kind(info.annotation)
    return sentence(name, value, rule) + near_miss(value, map(str, get_args(kind)))


def sentence(name: str, value: object, rule: str) -> str:
    """Why a value is refused: name, value, rule."""
    if isinstance(value, float) and not math.isfinite(value):
        rule = rule.replace("a number", "a finite number")
    return f"{name} = {value!r}: must be {rule}"


def _rule(info: FieldInfo) -> str | None:
    kind, nullable = _kind(info.annotation)
    if get_origin(kind) is Literal:
        rule = f"one of {', '.join(map(str, get_args(kind)))}"
    elif kind in _NOUNS:
        rule = f"{_NOUNS[kind]} {_range(kind, info.metadata)}".rstrip()
    else:
        return None
    unit = _unit(info.metadata)
    return ("null or " if nullable else "") + rule + (f" ({unit})" if unit else "")


def _facts(name: str, hint: Any, info: FieldInfo) -> FieldFacts:
    kind, nullable = _kind(info.annotation)
    is_choice = get_origin(kind) is Literal
    rule = _rule(info)
    if rule is None or not info.description:
        raise TypeError(f"field {name}: must be a number, boolean or choice with a description")
    return FieldFacts(
        name=name,
        info=info,
        annotation=hint,
        default=info.default,
        help=info.description,
        kind=str if is_choice else kind,
        choices=get_args(kind) if is_choice else (),
        nullable=nullable,
        range=_range(kind, info.metadata),
        unit=_unit(info.metadata),
        rule=rule,
    )


@functools.cache
def _adapter(facts: FieldFacts) -> TypeAdapter[Any]:
    return TypeAdapter(facts.annotation, config=STRICT)


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The type without None, and whether None was in it."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation, False
    others = [part for part in get_args(annotation) if part is not NoneType]
    return (others[0] if len(others) == 1 else annotation), len(others) == 1


def _unit(metadata: Sequence[Any]) -> str:
    return next((item.text for item in metadata if isinstance(item, Unit)), "")


def _range(kind: Any, metadata: Sequence[Any]) -> str:
    """The bounds in words: `>= 1`, `in 0..30`, `in (0, 1]`."""
    low: tuple[str, Any] | None = None
    high: tuple[str, Any] | None = None
    for item in metadata:
        if isinstance(item, annotated_types.Ge | annotated_types.Gt):
            low = (">=", item.ge) if isinstance(item, annotated_types.Ge) else (">", item.gt)
        if isinstance(item, annotated_types.Le | annotated_types.Lt):
            high = ("<=", item.le) if isinstance(item, annotated_types.Le) else ("<", item.lt)
    if low and high:
        if kind is int and (low[0], high[0]) == (">=", "<="):
            return f"in {low[1]}..{high[1]}"
        opened = "[" if low[0] == ">=" else "("
        closed = "]" if high[0] == "<=" else ")"
        return f"in {opened}{low[1]}, {high[1]}{closed}"
    one = low or high
    return f"{one[0]} {one[1]}" if one else ""
