"""The attention's arithmetic: a sort-based reference, a plain torch form, a GPU kernel.

`model.kernels.attention.nkat_attention` chooses by device; the other modules
are what it chooses from.
"""

from __future__ import annotations
