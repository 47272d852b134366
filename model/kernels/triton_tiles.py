"""How a call of the attention kernels is cut into tiles, by tokens and head width."""

from __future__ import annotations

from dataclasses import dataclass

MAX_TOKENS = 257
"""All keys of a row lie in one tile; longer rows would not fit the registers."""

MAX_HEAD_DIM = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """Tile sizes of the forward and the two backward kernels.

    Args:
        keys: keys in a row's tile, a power of two >= 16.
        extra: the last key stands apart (tokens = keys + 1).
        dims: features in a tile, the head width rounded up to a power of two.
        rows, warps: queries a forward program takes, and its warps of 32 threads.
        back_rows, back_keys, back_warps: the same of the backward kernels.
    """

    keys: int
    extra: bool
    dims: int
    rows: int
    warps: int
    back_rows: int
    back_keys: int
    back_warps: int

    @property
    def whole(self) -> bool:
        """One backward program a head does all of it, with all keys in its tile."""
        return self.back_keys >= self.keys

    @property
    def back_extra(self) -> bool:
        """The last key stands apart there too."""
        return self.extra and self.back_keys == self.keys


def power_of_two(number: int) -> int:
    """Smallest power of two >= `number`, at least 16 (the matrix unit's side)."""
    return max(16, 1 << (number - 1).bit_length())


def mask_words(tokens: int) -> int:
    """16-bit words of a row's keep mask: key n is bit n % 16 of word n // 16.

    Even, so that the backward kernels may read 32 bits at a time.
    """
    return 2 * -(-tokens // 32)


def plan(tokens: int, head_dim: int) -> Tiles:
    """Tiles for rows of `tokens` keys (1..257) and heads of `head_dim` (1..128).

    A token more than a power of two costs one value a row, not a doubled tile.
    """
    extra = tokens > 16 and tokens - 1 == power_of_two(tokens - 1)
    keys = tokens - 1 if extra else power_of_two(tokens)
    dims = power_of_two(head_dim)
    if keys <= 32:
        # backward, 17 keys in a tile of 32 are quicker than 16 and one apart
        back_rows = back_keys = min(32, power_of_two(tokens))
        rows, warps, back_warps = 16, 1, 1
    elif keys <= 64:
        rows, warps, back_rows, back_keys, back_warps = 16, 1, 32, keys, 4
    elif keys <= 128:
        rows, warps, back_rows, back_keys, back_warps = 32, 4, 32, 64, 4
    else:
        rows, warps, back_rows, back_keys, back_warps = 32, 4, 64, 64, 4
    return Tiles(
        keys=keys,
        extra=extra,
        dims=dims,
        rows=rows,
        warps=warps,
        back_rows=back_rows,
        back_keys=back_keys,
        back_warps=back_warps,
    )
