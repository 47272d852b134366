"""The `space` section: plain YAML values to checked parameters."""

from __future__ import annotations

import types
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from search.file.sections import MODEL_HINTS, TRAIN_HINTS, Section, first_problem
from search.file.yaml_text import KeyPath, Problem, dotted, nearest
from search.space import Choices, FloatRange, IntRange, Parameter

FIELD_HINTS: dict[str, Any] = {**MODEL_HINTS, **TRAIN_HINTS}
"""Every field that may be searched, with its type."""

M = TypeVar("M", bound=BaseModel)


class _ChoicesInput(Section):
    choices: list[Any] = Field(min_length=1)


class _IntInput(Section):
    low: int
    high: int
    step: int = Field(default=1, ge=1)
    log: bool = False


class _FloatInput(Section):
    low: float
    high: float
    step: float | None = Field(default=None, gt=0)
    log: bool = False


def parse_space(plain: dict[str, Any]) -> dict[str, Parameter]:
    """All parameters of the section.

    Raises:
        Problem: an unknown field, a wrong type, an empty range, a bad step.
    """
    return {name: _parse(name, value) for name, value in plain.items()}


def _parse(name: str, plain: Any) -> Parameter:
    path: KeyPath = ("space", name)
    if name not in FIELD_HINTS:
        raise Problem(path, f"unknown key {dotted(path)}{nearest(name, FIELD_HINTS)}")
    if isinstance(plain, list):
        return _choices(name, plain, path)
    if not isinstance(plain, dict):
        raise Problem(
            path,
            f"{dotted(path)} = {plain!r}: must be a list of choices or "
            "{low: ..., high: ...}; a fixed value belongs under model or train",
        )
    if "choices" in plain:
        made = _validated(_ChoicesInput, plain, path)
        return _choices(name, made.choices, (*path, "choices"))
    kinds = _scalar_types(FIELD_HINTS[name])
    if float in kinds:
        return _float_range(plain, path)
    if int in kinds:
        return _int_range(plain, path)
    raise Problem(
        path,
        f"{dotted(path)}: {name} is no number, so it needs a list of choices, for example "
        f"{_example(FIELD_HINTS[name])}",
    )


def _choices(name: str, values: list[Any], path: KeyPath) -> Choices:
    if not values:
        raise Problem(path, f"{dotted(path)} = []: must have at least one choice")
    adapter: TypeAdapter[Any] = TypeAdapter(FIELD_HINTS[name])
    for index, value in enumerate(values):
        try:
            adapter.validate_python(value, strict=True)
        except ValidationError as error:
            raise first_problem(error, value, known=(), prefix=(*path, index)) from None
        if any(value == v and type(value) is type(v) for v in values[:index]):
            raise Problem((*path, index), f"{dotted(path)}: the choice {value!r} stands twice")
    return Choices(tuple(values))


def _int_range(plain: dict[str, Any], path: KeyPath) -> IntRange:
    made = _validated(_IntInput, plain, path)
    _check_ends(made.low, made.high, made.log, path)
    if made.log and made.step != 1:
        raise _step_and_log(made.step, path)
    if (made.high - made.low) % made.step:
        reached = made.low + (made.high - made.low) // made.step * made.step
        raise Problem(
            (*path, "step"),
            f"{dotted(path)}.step = {made.step}: steps from {made.low} end at {reached}, not at "
            f"high = {made.high}; write high: {reached} or another step",
        )
    return IntRange(low=made.low, high=made.high, step=made.step, log=made.log)


def _float_range(plain: dict[str, Any], path: KeyPath) -> FloatRange:
    made = _validated(_FloatInput, plain, path)
    _check_ends(made.low, made.high, made.log, path)
    if made.step is not None:
        if made.log:
            raise _step_and_log(made.step, path)
        steps = (made.high - made.low) / made.step
        if abs(steps - round(steps)) > 1e-8 * max(1.0, steps):
            raise Problem(
                (*path, "step"),
                f"{dotted(path)}.step = {made.step}: no whole number of steps leads from "
                f"{made.low} to {made.high}",
            )
    return FloatRange(low=made.low, high=made.high, step=made.step, log=made.log)


def _check_ends(low: float, high: float, log: bool, path: KeyPath) -> None:
    if low > high:
        raise Problem(
            (*path, "low"), f"{dotted(path)} is empty: low = {low} is above high = {high}"
        )
    if log and low <= 0:
        raise Problem(
            (*path, "low"), f"{dotted(path)}.low = {low}: must be > 0 on a logarithmic scale"
        )


def _step_and_log(step: float, path: KeyPath) -> Problem:
    return Problem(
        (*path, "step"),
        f"{dotted(path)}.step = {step}: a logarithmic range has no step; remove one of the two",
    )


def _validated(model: type[M], plain: dict[str, Any], path: KeyPath) -> M:
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        raise first_problem(error, plain, known=tuple(model.model_fields), prefix=path) from None


def _scalar_types(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) in (Union, types.UnionType):
        return get_args(hint)
    return (hint,)


def _example(hint: Any) -> str:
    values = get_args(hint) if get_origin(hint) is Literal else ("false", "true")
    return f"[{', '.join(map(str, values))}]"
