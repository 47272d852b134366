"""One option for every field of ModelConfig and TrainConfig, made from their fields.

The source's line works as written: `--conv_stem tiny --randaugment 2 9 --lr 2e-4`.
A new field of a configuration is a new option, its help the field's docstring.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import typer

from model.config import ModelConfig, TrainConfig
from nkat_errors import BadInput

FROM_DATA = ("image_size", "channels", "classes")
RANDAUGMENT = ("randaugment_ops", "randaugment_magnitude")
NULL_WORDS = ("none", "null")

R = TypeVar("R")


def recipe_options(command: Callable[..., R]) -> Callable[..., R]:
    """Adds the options to a command; its parameter `recipe: dict[str, Any]` gets the
    values of those that were given, by field name.

    Raises:
        BadInput: (when called) a value that is none of its field's type.
    """
    hints = {**get_type_hints(ModelConfig), **get_type_hints(TrainConfig)}
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
                recipe[option.name] = parse_value(option.name, value, hints[option.name])
        return command(**values, recipe=recipe)

    wrapped.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*own, *options]
    )
    wrapped.__annotations__ = {p.name: p.annotation for p in (*own, *options)}
    return wrapped


def split_recipe(recipe: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Given options, apart for the network and for the training."""
    model_names = {field.name for field in fields(ModelConfig)}
    model = {k: v for k, v in recipe.items() if k in model_names}
    return model, {k: v for k, v in recipe.items() if k not in model_names}


def parse_value(name: str, text: str, hint: Any) -> Any:
    """A field's value from the command line.

    Raises:
        BadInput: it is none, with the option, the value and the rule.
    """
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    option = f"--{name.replace('_', '-')}"
    if get_origin(hint) is Literal:
        choices = [str(choice) for choice in get_args(hint)]
        if text in choices:
            return text
        close = difflib.get_close_matches(text, choices, n=1)
        hint_text = f"; did you mean {close[0]!r}?" if close else ""
        raise BadInput(f"{option} {text}: must be one of {', '.join(choices)}{hint_text}")
    if type(None) in kinds and text.lower() in NULL_WORDS:
        return None
    kind, rule = (float, "a number") if float in kinds else (int, "a whole number")
    try:
        return kind(text)
    except ValueError:
        null = ", or none" if type(None) in kinds else ""
        raise BadInput(f"{option} {text}: must be {rule}{null}") from None


def _options() -> list[inspect.Parameter]:
    options: list[inspect.Parameter] = []
    for config, panel in ((ModelConfig, "Network"), (TrainConfig, "Training recipe")):
        hints, helps = get_type_hints(config), _helps(config)
        for field in fields(config):
            if field.name in FROM_DATA or field.name in RANDAUGMENT:
                continue
            hint = hints[field.name]
            flag = f"--{field.name.replace('_', '-')}"
            help_text = f"{helps[field.name]} [default: {_shown(field.default)}]"
            if hint is bool:
                info = typer.Option(
                    f"{flag}/--no-{flag[2:]}", help=help_text, rich_help_panel=panel
                )
                options.append(_parameter(field.name, Annotated[bool | None, info]))
                continue
            info = typer.Option(
                flag, metavar=_metavar(hint), help=help_text, rich_help_panel=panel
            )
            options.append(_parameter(field.name, Annotated[str | None, info]))
    defaults = TrainConfig()
    info = typer.Option(
        "--randaugment",
        metavar="OPS MAGNITUDE",
        help="RandAugment: operations an image gets, and magnitude on torchvision's scale "
        f"0..30. [default: {defaults.randaugment_ops} {defaults.randaugment_magnitude}]",
        rich_help_panel="Training recipe",
    )
    options.append(_parameter("randaugment", Annotated[tuple[int, int] | None, info]))
    return options


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _helps(config: type) -> dict[str, str]:
    """The field descriptions of a configuration's docstring."""
    arguments = inspect.cleandoc(config.__doc__ or "").split("Args:")[1]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8,}.*)*)", arguments, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return "none" if default is None else str(default)


def _metavar(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    name = "NUMBER" if float in kinds else "INT"
    return f"{name}|none" if type(None) in kinds else name
