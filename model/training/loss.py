"""Cross-entropy against one label or against two mixed ones."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def mixed_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    other_labels: Tensor | None = None,
    share: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """share * CE(logits, labels) + (1 - share) * CE(logits, other_labels), mean over images.

    That is the cross-entropy against the mixed soft label, without building it.

    Args:
        logits: [B, classes]; taken to float32.
        labels: int64 [B].
        other_labels: int64 [B], what each image was mixed with; None: unmixed.
        share: float 0-dim or [B], of `labels` in the mix, 0..1.
        label_smoothing: [0, 1].

    Returns:
        0-dim float32.
    """
    logits = logits.float()
    own = F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
    if other_labels is None or share is None:
        return own.mean()
    other = F.cross_entropy(
        logits, other_labels, label_smoothing=label_smoothing, reduction="none"
    )
    return (share * own + (1 - share) * other).mean()
