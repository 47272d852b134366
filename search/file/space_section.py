"""The `space` section: plain YAML values to checked parameters."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from model.config import BadField, FieldFacts
from nkat_errors import nearest
from search.file.base import Section
from search.file.problems import first_problem
from search.file.sections import MODEL_FIELDS, TRAIN_FIELDS
from search.file.yaml_text import KeyPath, Problem, dotted
from search.space import Choices, FloatRange, IntRange, Parameter

SEARCHABLE: dict[str, FieldFacts] = {**MODEL_FIELDS, **TRAIN_FIELDS}
"""Every field that may be searched."""

M = TypeVar("M", bound=BaseModel)


class ChoicesInput(Section):
    """One of a list, without order."""

    choices: list[Any] = Field(min_length=1)


class IntInput(Section):
    """low, low + step, ... high."""

    low: int
    high: int
    step: int = Field(default=1, ge=1)
    log: bool = Field(default=False, description="on a logarithmic scale, without a step")


class FloatInput(Section):
    """low..high, continuous unless there is a step."""

    low: float
    high: float
    step: float | None = Field(default=None, gt=0)
    log: bool = Field(default=False, description="on a logarithmic scale, without a step")


def parse_space(plain: dict[str, Any]) -> dict[str, Parameter]:
    """All parameters of the section.

    Raises:
        Problem: an unknown field, a wrong type, an empty range, a bad step.
    """
    return {name: _parse(name, value) for name, value in plain.items()}


def _parse(name: str, plain: Any) -> Parameter:
    path: KeyPath = ("space", name)
    if name not in SEARCHABLE:
        raise Problem(path, f"unknown key {dotted(path)}{nearest(name, SEARCHABLE)}")
    facts = SEARCHABLE[name]
    if isinstance(plain, list):
        return _choices(facts, plain, path)
    if not isinstance(plain, dict):
        raise Problem(
            path,
            f"{dotted(path)} = {plain!r}: must be a list of choices or "
            "{low: ..., high: ...}; a fixed value belongs under model or train",
        )
    if "choices" in plain:
        made = _validated(ChoicesInput, plain, path)
        return _choices(facts, made.choices, (*path, "choices"))
    if facts.kind is float:
        return _float_range(facts, plain, path)
    if facts.kind is int:
        return _int_range(facts, plain, path)
    example = ", ".join(facts.choices or ("false", "true"))
    raise Problem(
        path,
        f"{dotted(path)}: {name} is no number, so it needs a list of choices, for example "
        f"[{example}]",
    )


def _choices(facts: FieldFacts, values: list[Any], path: KeyPath) -> Choices:
    if not values:
        raise Problem(path, f"{dotted(path)} = []: must have at least one choice")
    for index, value in enumerate(values):
        _check_value(facts, value, (*path, index))
        if any(value == v and type(value) is type(v) for v in values[:index]):
            raise Problem((*path, index), f"{dotted(path)}: the choice {value!r} stands twice")
    return Choices(tuple(values))


def _check_value(facts: FieldFacts, value: Any, path: KeyPath) -> None:
    try:
        facts.checked(value, name=dotted(path))
    except BadField as error:
        raise Problem(path, str(error)) from None


def _int_range(facts: FieldFacts, plain: dict[str, Any], path: KeyPath) -> IntRange:
    made = _validated(IntInput, plain, path)
    _check_ends(facts, made, path)
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


def _float_range(facts: FieldFacts, plain: dict[str, Any], path: KeyPath) -> FloatRange:
    made = _validated(FloatInput, plain, path)
    _check_ends(facts, made, path)
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


def _check_ends(facts: FieldFacts, made: IntInput | FloatInput, path: KeyPath) -> None:
    if made.low > made.high:
        raise Problem(
            (*path, "low"),
            f"{dotted(path)} is empty: low = {made.low} is above high = {made.high}",
        )
    if made.log and made.low <= 0:
        raise Problem(
            (*path, "low"), f"{dotted(path)}.low = {made.low}: must be > 0 on a logarithmic scale"
        )
    # A field's values are an interval: what holds at both ends holds between them.
    _check_value(facts, made.low, (*path, "low"))
    _check_value(facts, made.high, (*path, "high"))


def _step_and_log(step: float, path: KeyPath) -> Problem:
    return Problem(
        (*path, "step"),
        f"{dotted(path)}.step = {step}: a logarithmic range has no step; remove one of the two",
    )


def _validated(model: type[M], plain: dict[str, Any], path: KeyPath) -> M:
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        raise first_problem(error, plain, section=model, prefix=path) from None
