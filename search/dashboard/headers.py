"""Headers that every answer of the dashboard carries."""

from __future__ import annotations

from collections.abc import Iterable

STATIC = "/static/"
"""Below it are the dashboard's scripts: no secret, the same for everybody."""

# The dashboard's styles stand in its pages; its plots are drawn to blobs and data URLs.
CONTENT = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
SECURITY = (
    ("Content-Security-Policy", CONTENT),
    ("X-Frame-Options", "DENY"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
)
_OURS = {name.lower() for name, _ in SECURITY} | {"cache-control"}


def with_headers(path: str, given: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """An answer's headers and ours, which go before its own of the same name.

    Args:
        path: of the request.
        given: what the application says.
    """
    # A browser asks again each time; an unchanged script comes from its cache.
    cache = "private, no-cache" if path.startswith(STATIC) else "no-store"
    kept = [(name, value) for name, value in given if name.lower() not in _OURS]
    return [*kept, ("Cache-Control", cache), *SECURITY]
