"""Writes requirements.txt and pins.txt for the image from pyproject.toml and a constraints file.

    python3 requirements.py pyproject.toml constraints.txt NAME=VERSION ...

A NAME with a VERSION replaces that pin; another torch brings another CUDA, so the pins of
everything that torch chooses are dropped with it.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

TORCH_CHOOSES = ("torch", "torchvision", "triton", "nvidia-", "cuda-")
"""Names (or their beginnings) whose versions belong to one torch release."""


def main(pyproject: str, constraints: str, *overrides: str) -> None:
    wanted = dict(item.split("=", 1) for item in overrides)
    wanted = {name: version for name, version in wanted.items() if version}
    dropped = tuple(wanted) + (TORCH_CHOOSES if "torch" in wanted else ())
    project = tomllib.loads(Path(pyproject).read_text(encoding="utf-8"))["project"]
    pins = [
        line
        for line in Path(constraints).read_text(encoding="utf-8").splitlines()
        if "==" in line
        and not line.startswith(tuple(name for name in dropped if name.endswith("-")))
        and line.split("==")[0] not in dropped
    ]
    pins += [f"{name}=={version}" for name, version in wanted.items()]
    Path("requirements.txt").write_text("\n".join(project["dependencies"]) + "\n", "utf-8")
    Path("pins.txt").write_text("\n".join(pins) + "\n", "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
