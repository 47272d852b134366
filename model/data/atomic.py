"""Writing a prepared .npz so that no reader ever sees half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from model.data.info import Images, Labels


def write_prepared(
    path: Path,
    *,
    train_images: Images,
    train_labels: Labels,
    test_images: Images,
    test_labels: Labels,
) -> None:
    """Writes the prepared format (`model/data/prepared.py`) in one step.

    Args:
        path: NAME.npz; its folder exists.
        train_images, test_images: uint8 [N, H, W] or [N, H, W, 3].
        train_labels, test_labels: integers [N].
    """
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(
                stream,
                train_images=train_images,
                train_labels=train_labels.astype(np.uint8),
                test_images=test_images,
                test_labels=test_labels.astype(np.uint8),
            )
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp gives the owner alone access; a shared cache is read by others.
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
