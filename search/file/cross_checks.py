"""What must fit together in a search file, beyond each key by itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model.config import FROM_DATA, ModelConfig, Rule, TrainConfig, warmup_fits
from nkat_errors import nearest
from search.file.search_file import SearchFile
from search.file.sections import MODEL_FIELDS, TRAIN_FIELDS
from search.file.yaml_text import KeyPath, Problem, dotted
from search.score.tpe_score import accuracy_needed, lambda_counted, lambda_theory, largest_score


def check_together(search_file: SearchFile) -> tuple[str, ...]:
    """Refuses what cannot work; returns warnings about what is only doubtful.

    Raises:
        Problem: with the key path that is to be changed.
    """
    _check_datasets(search_file)
    _check_fixed_and_searched(search_file)
    _check_rules(search_file)
    _check_first_trials(search_file)
    _check_bound(search_file)
    return (*_check_threshold(search_file), *_check_limits(search_file))


def _check_datasets(search_file: SearchFile) -> None:
    seen: dict[str, int] = {}
    for index, entry in enumerate(search_file.datasets):
        if entry.epochs is not None and "epochs" in entry.train.given():
            raise Problem(
                ("datasets", index, "train", "epochs"),
                f"datasets[{index}].train.epochs: datasets[{index}].epochs = {entry.epochs} says "
                "the same; remove one of the two",
            )
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


def _check_first_trials(search_file: SearchFile) -> None:
    parameters = search_file.space.parameters
    for index, point in enumerate(search_file.first_trials):
        path: KeyPath = ("first_trials", index)
        for name in point:
            if name not in parameters:
                hint = nearest(name, parameters)
                raise Problem((*path, name), f"{dotted((*path, name))}: not searched{hint}")
        for name, parameter in parameters.items():
            if name not in point:
                raise Problem(
                    path, f"{dotted(path)} has no value for {name}: each searched field needs one"
                )
            if not parameter.has(point[name]):
                raise Problem(
                    (*path, name),
                    f"{dotted((*path, name))} = {point[name]!r}: not in space.{name}, which is "
                    f"{parameter.to_plain()}",
                )
        why = search_file.why_infeasible(point)
        if why is not None:
            raise Problem(path, f"{dotted(path)} cannot be trained: {why}")


def _check_bound(search_file: SearchFile) -> None:
    bound = search_file.bound
    if bound.kind == "off" and bound.spread is not None:
        raise Problem(
            ("bound", "spread"),
            f"bound.spread = {bound.spread:g}: bound.kind = 'off' stops nothing, within stage 1 "
            "neither; remove one of the two",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """Where a field's values stand, for the network or for the recipe of one data set.

    `long`: the recipe of the recalculation.
    """

    search_file: SearchFile
    section: str
    index: int | None = None
    long: bool = False

    def place(self, name: str) -> KeyPath | None:
        """The key that decides a field; None where its default does."""
        if self.index is not None:
            entry = self.search_file.datasets[self.index]
            if name == "epochs" and entry.epochs is not None:
                return ("datasets", self.index, "epochs")
            if name in entry.recipe():
                return ("datasets", self.index, "train", name)
        if self.long and name in self.search_file.recalculation.train.given():
            return ("recalculation", "train", name)
        if name in self.search_file.space.parameters:
            return ("space", name)
        return (self.section, name) if name in self._fixed else None

    def values(self, name: str) -> list[Any]:
        """Every value that a trial (or its recalculation) can get."""
        found = self._values(name)
        if name == "epochs" and self.long:
            return [self.search_file.recalculation.epochs(epochs) for epochs in found]
        return found

    def _values(self, name: str) -> list[Any]:
        place = self.place(name)
        if place is None:
            return [(MODEL_FIELDS | TRAIN_FIELDS)[name].default]
        if place[0] == "space":
            return self.search_file.space.parameters[name].values()
        if place[0] == "recalculation":
            return [self.search_file.recalculation.train.given()[name]]
        if place[0] == "datasets" and self.index is not None:
            return [self.search_file.datasets[self.index].recipe()[name]]
        return [self._fixed[name]]

    def combinations(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Every combination of these fields that a trial can get."""
        for values in itertools.product(*(self.values(name) for name in names)):
            yield dict(zip(names, values, strict=True))

    @property
    def _fixed(self) -> Mapping[str, Any]:
        return self.search_file.model if self.section == "model" else self.search_file.train


def _check_rules(search_file: SearchFile) -> None:
    """Whatever fields a rule is about, every combination of their values must keep it, on
    every data set: so each configuration of the space can be built."""
    network = _Scope(search_file=search_file, section="model")
    for rule in ModelConfig.RULES:
        if not set(rule.fields) & set(FROM_DATA):
            _check_rule(rule, network)
    recipes = itertools.product(range(len(search_file.datasets)), (False, True))
    for index, long in recipes:
        recipe = _Scope(search_file=search_file, section="train", index=index, long=long)
        for rule in TrainConfig.RULES:
            _check_rule(rule, recipe)
        # A default warm-up is cut to half of a short run, one that somebody wrote is not.
        if recipe.place("warmup") is not None:
            _check_rule(warmup_fits, recipe)


def _check_rule(rule: Rule, scope: _Scope) -> None:
    for chosen in scope.combinations(rule.fields):
        why = rule.why_not(chosen)
        if why is None:
            continue
        places = {name: place for name in rule.fields if (place := scope.place(name))}
        blamed = next(iter(places.values()), (scope.section,))
        others = [
            f"{dotted(place)} = {chosen[name]!r}"
            for name, place in places.items()
            if place != blamed
        ]
        also = f" (with {', '.join(others)})" if others else ""
        also += " in the recalculation" if scope.long else ""
        raise Problem(blamed, f"{dotted(blamed[:-1])}.{why}{also}")


def lambdas_of_space(search_file: SearchFile) -> list[tuple[float, dict[str, Any]]] | None:
    """lambda of every value of the space it depends on; None for `parameters`, which
    needs the network (`describe` and `create` count it)."""
    reading = search_file.lambda_reading
    if reading == "parameters":
        return None
    names = ("conv_stem", "embed_dim") if reading == "theory" else ("depth",)
    result = []
    for chosen in _Scope(search_file=search_file, section="model").combinations(names):
        if reading == "theory":
            lam = lambda_theory(**chosen)
        else:
            lam = lambda_counted(nkat_scalars=ModelConfig.from_dict(chosen).nkat_scalars)
        result.append((lam, chosen))
    return sorted(result, key=lambda item: item[0])


def _check_limits(search_file: SearchFile) -> tuple[str, ...]:
    """Some networks must keep the limit; that others do not is worth a warning."""
    limit = search_file.limits.tokens
    if limit is None:
        return ()
    network = _Scope(search_file=search_file, section="model")
    networks = list(network.combinations(("conv_stem", "patch_size", "pool")))
    tokens = [ModelConfig.from_dict(chosen).tokens for chosen in networks]
    beyond = sum(count > limit for count in tokens)
    if beyond == len(tokens):
        least = min(tokens)
        raise Problem(
            ("limits", "tokens"),
            f"limits.tokens = {limit}: no network of the space keeps it; the fewest tokens are "
            f"{least} ({_text(networks[tokens.index(least)])})",
        )
    if not beyond:
        return ()
    most = max(tokens)
    return (
        f"limits.tokens = {limit} is broken by {beyond} of the {len(tokens)} ways to cut an image "
        f"into tokens, the most being {most} ({_text(networks[tokens.index(most)])}): these "
        "are not drawn",
    )


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
