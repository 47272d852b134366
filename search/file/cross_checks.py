"""What must fit together in a search file, beyond each key by itself."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from model.config import ModelConfig, TrainConfig
from nkat_errors import BadInput
from search.file.sections import MODEL_HINTS, TRAIN_HINTS
from search.file.yaml_text import KeyPath, Problem, dotted
from search.score.tpe_score import accuracy_needed, lambda_counted, lambda_theory, largest_score

if TYPE_CHECKING:
    from search.file.search_file import SearchFile


def check_together(search_file: SearchFile) -> tuple[str, ...]:
    """Refuses what cannot work; returns warnings about what is only doubtful.

    Raises:
        Problem: with the key path that is to be changed.
    """
    _check_datasets(search_file)
    _check_fixed_and_searched(search_file)
    _check_combinations(search_file)
    _check_warmup(search_file)
    return _check_threshold(search_file)


def _check_datasets(search_file: SearchFile) -> None:
    seen: dict[str, int] = {}
    for index, entry in enumerate(search_file.datasets):
        for name in (entry.name, *entry.alternatives):
            if name in seen:
                raise Problem(
                    ("datasets", index),
                    f"datasets[{index}] = {name!r}: already named by datasets[{seen[name]}]",
                )
        for name in (entry.name, *entry.alternatives):
            seen[name] = index
    gate, first = search_file.gate.dataset, search_file.datasets[0].name
    if gate != first:
        raise Problem(
            ("gate", "dataset"),
            f"gate.dataset = {gate!r}: must be the first of datasets, which is {first!r}",
        )


def _check_fixed_and_searched(search_file: SearchFile) -> None:
    for section, fixed in (("model", search_file.model), ("train", search_file.train)):
        for name in fixed:
            if name in search_file.space.parameters:
                raise Problem(
                    ("space", name),
                    f"{name} is fixed (as {section}.{name} = {fixed[name]!r}) and searched "
                    f"(as space.{name}); remove one of the two",
                )


INTERACTING = {"model": ("embed_dim", "heads", "split_heads"), "train": ("mixup", "cutmix")}
"""Fields that ModelConfig and TrainConfig judge together; all others stand alone."""


def _check_combinations(search_file: SearchFile) -> None:
    """Builds every combination of the fields that interact, and every value of the
    others once: so each configuration of the space can be built."""
    values = {name: p.values() for name, p in search_file.space.parameters.items()}
    for section, hints in (("model", MODEL_HINTS), ("train", TRAIN_HINTS)):
        together = [name for name in INTERACTING[section] if name in values]
        for combination in itertools.product(*(values[name] for name in together)):
            chosen = dict(zip(together, combination, strict=True))
            _build(search_file, section, chosen, set(together))
        for name in values:
            if name in hints and name not in together:
                for value in values[name]:
                    _build(search_file, section, chosen | {name: value}, {name})


def _build(
    search_file: SearchFile, section: str, params: dict[str, Any], blamed: set[str]
) -> None:
    config: type[ModelConfig] | type[TrainConfig]
    if section == "model":
        config, fixed = ModelConfig, dict(search_file.model)
    else:
        config, fixed = TrainConfig, dict(search_file.train)
    try:
        config(**{**fixed, **params})
    except BadInput as error:
        path = _blame(str(error), section, fixed, blamed)
        chosen = ", ".join(f"{name} = {params[name]!r}" for name in params if name in blamed)
        searched = f" (among the searched: {chosen})" if chosen else ""
        raise Problem(path, f"{dotted(path[:1])}.{error}{searched}") from None


def _blame(message: str, section: str, fixed: dict[str, Any], searched: set[str]) -> KeyPath:
    """The key that a configuration's message (`name = value: must be rule`) is about."""
    names = message.split(" = ")[0].split(" + ")
    for name in names:
        if name in searched:
            return ("space", name)
    for name in names:
        if name in fixed:
            return (section, name)
    return ("space", sorted(searched)[0]) if searched else (section, names[0])


def _check_warmup(search_file: SearchFile) -> None:
    """Warm-up must end before training does, on every data set."""

    def all_values(name: str) -> list[Any]:
        if name in search_file.space.parameters:
            return search_file.space.parameters[name].values()
        return [search_file.train.get(name, getattr(TrainConfig(), name))]

    warmup = max(all_values("warmup"))
    shortest = min(all_values("epochs"))
    place: KeyPath = ("train", "warmup")
    if "warmup" in search_file.space.parameters:
        place = ("space", "warmup")
    for index, entry in enumerate(search_file.datasets):
        epochs = entry.epochs if entry.epochs is not None else shortest
        if warmup >= epochs:
            where = f"datasets[{index}].epochs" if entry.epochs is not None else "epochs"
            raise Problem(
                place,
                f"{dotted(place)} = {warmup}: must be less than {where} = {epochs}",
            )


def lambdas_of_space(search_file: SearchFile) -> list[tuple[float, dict[str, Any]]] | None:
    """lambda of every value of the space it depends on; None for `parameters`, which
    needs the network (`describe` and `create` count it)."""
    reading = search_file.lambda_reading
    if reading == "parameters":
        return None
    names = ("conv_stem", "embed_dim") if reading == "theory" else ("depth",)
    lists = []
    for name in names:
        if name in search_file.space.parameters:
            lists.append(search_file.space.parameters[name].values())
        else:
            lists.append([search_file.model.get(name, getattr(ModelConfig(), name))])
    result = []
    for values in itertools.product(*lists):
        chosen: dict[str, Any] = dict(zip(names, values, strict=True))
        if reading == "theory":
            lam = lambda_theory(**chosen)
        else:
            lam = lambda_counted(nkat_scalars=ModelConfig.from_dict(chosen).nkat_scalars)
        result.append((lam, chosen))
    return sorted(result, key=lambda item: item[0])


def _check_threshold(search_file: SearchFile) -> tuple[str, ...]:
    found = lambdas_of_space(search_file)
    if found is None:
        return ()
    threshold = search_file.gate.threshold
    lowest, at_lowest = found[0]
    if lowest <= 0:
        raise Problem(
            _key_of(search_file, at_lowest, "embed_dim"),
            f"{_text(at_lowest)} gives lambda = {lowest:.4g} by the reading "
            f"{search_file.lambda_reading!r}, but a TPE score needs lambda > 0; use embed_dim "
            "142 or more, or `lambda: counted`",
        )
    if largest_score(lowest) < threshold:
        raise Problem(
            ("gate", "threshold"),
            f"gate.threshold = {threshold}: cannot be reached at any lambda of the space; at the "
            f"smallest, {lowest:.4g} ({_text(at_lowest)}), it needs an accuracy of "
            f"{accuracy_needed(threshold, lowest):.4f} and accuracy 1 gives "
            f"{largest_score(lowest):.4f}",
        )
    highest, at_highest = found[-1]
    if largest_score(highest) < threshold:
        beyond = sum(largest_score(lam) < threshold for lam, _ in found)
        warning = (
            f"gate.threshold = {threshold} cannot be reached at {beyond} of the {len(found)} "
            f"lambdas of the space, the largest being {highest:.4g} ({_text(at_highest)}), where "
            f"accuracy 1 gives {largest_score(highest):.4f}: trials there always fail the gate"
        )
        return (warning,)
    return ()


def _key_of(search_file: SearchFile, chosen: dict[str, Any], preferred: str) -> KeyPath:
    if preferred in chosen:
        for section in ("space", "model"):
            keys = search_file.space.parameters if section == "space" else search_file.model
            if preferred in keys:
                return (section, preferred)
    return ("lambda",)


def _text(chosen: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in chosen.items())
