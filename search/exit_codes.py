"""What the processes of this project end with; a shell and a parent process read it."""

from __future__ import annotations

import signal

EXIT_DONE = 0
EXIT_FAILED = 1
"""It went wrong, or the answer is no (NO-GO, a broken promise)."""
EXIT_BAD_INPUT = 2
"""The user's input cannot work: trying again will not help."""
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM
"""As a shell says it of a process that the signal ended."""
