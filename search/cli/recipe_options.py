"""One option for every field of ModelConfig and TrainConfig, made from their fields.

The source's line works as written: `--conv_stem tiny --randaugment 2 9 --lr 2e-4`.
A new field of a configuration is a new option, with the field's own help and default.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import typer

from model.config import FROM_DATA, BadField, FieldFacts, ModelConfig, TrainConfig, facts_of
from nkat_errors import BadInput, near_miss

NETWORK = {name: facts for name, facts in facts_of(ModelConfig).items() if name not in FROM_DATA}
TRAINING = facts_of(TrainConfig)

RANDAUGMENT = ("randaugment_ops", "randaugment_magnitude")
"""Two fields that are one option, as the source writes it: `--randaugment 2 9`."""

NULL_WORDS = ("none", "null")

R = TypeVar("R")


def recipe_options(command: Callable[..., R]) -> Callable[..., R]:
    """Adds the options to a command; its parameter `recipe: dict[str, Any]` gets the
    values of those that were given, by field name.

    Raises:
        BadInput: (when called) a value that its field cannot have.
    """
    fields = {**NETWORK, **TRAINING}
    signature = inspect.signature(command, eval_str=True)
    own = [p for name, p in signature.parameters.items() if name != "recipe"]
    options = _options()

    @functools.wraps(command)
    def wrapped(**values: Any) -> R:
        recipe: dict[str, Any] = {}
        for option in options:
            value = values.pop(option.name)
            if value is None:
                continue
            if option.name == "randaugment":
                recipe |= dict(zip(RANDAUGMENT, value, strict=True))
            elif isinstance(value, bool):
                recipe[option.name] = value
            else:
                recipe[option.name] = parse_value(fields[option.name], value)
        return command(**values, recipe=recipe)

    wrapped.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*own, *options]
    )
    wrapped.__annotations__ = {p.name: p.annotation for p in (*own, *options)}
    return wrapped


def split_recipe(recipe: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Given options, apart for the network and for the training."""
    model = {name: value for name, value in recipe.items() if name in NETWORK}
    return model, {name: value for name, value in recipe.items() if name in TRAINING}


def parse_value(facts: FieldFacts, text: str) -> Any:
    """A field's value from the command line.

    Raises:
        BadInput: the field cannot have it; with the option, the value and the rule.
    """
    if facts.nullable and text.lower() in NULL_WORDS:
        return None
    try:
        return facts.checked(facts.kind(text))
    except (ValueError, BadField):
        rule = facts.rule.replace("null", NULL_WORDS[0], 1)
        near = near_miss(text, facts.choices)
        raise BadInput(f"{_flag(facts.name)} {text}: must be {rule}{near}") from None


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _options() -> list[inspect.Parameter]:
    options: list[inspect.Parameter] = []
    for fields, panel in ((NETWORK, "Network"), (TRAINING, "Training recipe")):
        for name, facts in fields.items():
            if name == RANDAUGMENT[0]:
                options.append(_randaugment(panel))
            elif name not in RANDAUGMENT:
                options.append(_option(facts, panel))
    return options


def _option(facts: FieldFacts, panel: str) -> inspect.Parameter:
    flag = _flag(facts.name)
    text = f"{_help(facts)} [default: {_shown(facts.default)}]"
    if facts.kind is bool:
        info = typer.Option(f"{flag}/--no-{flag[2:]}", help=text, rich_help_panel=panel)
        return _parameter(facts.name, Annotated[bool | None, info])
    info = typer.Option(flag, metavar=_metavar(facts), help=text, rich_help_panel=panel)
    return _parameter(facts.name, Annotated[str | None, info])


def _randaugment(panel: str) -> inspect.Parameter:
    ops, magnitude = (TRAINING[name] for name in RANDAUGMENT)
    info = typer.Option(
        "--randaugment",
        metavar="OPS MAGNITUDE",
        help=f"{_help(ops)}, and {_help(magnitude)} [default: {ops.default} {magnitude.default}]",
        rich_help_panel=panel,
    )
    return _parameter("randaugment", Annotated[tuple[int, int] | None, info])


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _help(facts: FieldFacts) -> str:
    details = ", ".join(part for part in (facts.range, facts.unit) if part)
    return f"{facts.help} ({details})" if details else facts.help


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return NULL_WORDS[0] if default is None else str(default)


def _metavar(facts: FieldFacts) -> str:
    if facts.choices:
        return "|".join(facts.choices)
    name = "NUMBER" if facts.kind is float else "INT"
    return f"{name}|{NULL_WORDS[0]}" if facts.nullable else name
