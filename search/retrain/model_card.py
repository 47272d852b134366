"""The model card of a recalculation: README.md beside its weights.

A head of YAML that the Hugging Face hub reads (`model-index`), then the page.  Written from
a template and not with huggingface_hub, which needs an HTTP client and a transfer library
for what are forty lines here.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from search.export.best_file import BestFile
from search.export.recalculation_record import RecalculationResult
from search.file.yaml_text import dump_yaml
from search.retrain.recalculation_report import SCORE_TITLES, sentences
from search.terminal import duration

LIBRARY = "nkat-search"
CARD = "README.md"
TEMPLATE = "model_card.md.jinja"
LARGEST_MATRIX = 30
"""Classes up to which the page shows a confusion matrix."""


def model_card(best: BestFile, *, file_name: str) -> str:
    """The card's text.

    Args:
        best: with its recalculation.
        file_name: of the YAML file beside it.
    """
    result = best.recalculation.result
    if result is None:
        raise ValueError("this file records no recalculation")
    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown; `inline` is for texts from outside
    )
    environment.filters |= {"inline": _inline, "percent": _percent}
    template = environment.from_string(
        resources.files("search.retrain").joinpath(TEMPLATE).read_text(encoding="utf-8")
    )
    return template.render(
        head=dump_yaml(_head(best, result)),
        best=best,
        result=result,
        name=_name(best),
        file_name=file_name,
        score_titles=SCORE_TITLES,
        notes=sentences(best),
        trained_for=duration(sum(run.seconds for one in result.sets.values() for run in one.runs)),
        largest_matrix=LARGEST_MATRIX,
    )


def is_model_card(text: str) -> bool:
    """Whether a README.md is one of this command's, which it may replace."""
    return text.startswith("---\n") and f"library_name: {LIBRARY}\n" in text.split("\n---\n")[0]


def _name(best: BestFile) -> str:
    return f"{best.provenance.study}-trial-{best.provenance.trial}"


def _head(best: BestFile, result: RecalculationResult) -> dict[str, Any]:
    results = []
    for name, one in result.sets.items():
        if one.accuracy.mean is None:
            continue
        results.append(
            {
                "task": {"type": "image-classification", "name": "Image classification"},
                "dataset": {"type": name, "name": one.title, "split": "test"},
                "metrics": [
                    {
                        "type": "accuracy",
                        "value": one.accuracy.mean,
                        "name": f"Accuracy (mean of {len(one.runs)} seeds)",
                    }
                ],
            }
        )
    return {
        "library_name": LIBRARY,
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "vision-transformer", "nkat"],
        "datasets": list(result.sets),
        "metrics": ["accuracy"],
        "model-index": [{"name": _name(best), "results": results}],
    }


def _inline(text: object) -> str:
    """A text from outside on one line, with nothing in it that Markdown would act on."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(str(text).split()))


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.2f} %"
