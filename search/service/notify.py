"""A webhook: one JSON when the search ends, pauses or finds a new best trial.

`text` and `content` hold the same sentence, which Slack, Mattermost and Discord show.
Whatever goes wrong with it is a line in the log: the search goes on.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from nkat_errors import BadInput
from search.file.addresses import WEB_ADDRESS, is_web_address
from search.service.observation import Observation
from search.service.steering import RESUME

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
"""Of one post, and of the posts that are left when the search ends."""
MOST_WAITING = 100
"""Posts that wait for a slow receiver; further ones are dropped."""


class Notifier:
    """An observer of a search that posts what is news.

    What it sees first is no news: a search that goes on has told of it already.

    Args:
        url: of the webhook, http or https.
    """

    def __init__(self, *, url: str) -> None:
        self._url = url
        self._waiting: queue.Queue[dict[str, str] | None] = queue.Queue(MOST_WAITING)
        self._seen: Observation | None = None
        self._thread = threading.Thread(target=self._post_all, name="nkat-notify", daemon=True)
        self._thread.start()

    def observe(self, seen: Observation) -> None:
        before, self._seen = self._seen, seen
        if before is None:
            return
        if _best(seen) > _best(before):
            self._say("new_best", seen, f"new best {_score(seen)}; {_count(seen)}")
        if seen.state == before.state:
            return
        if seen.state == "done":
            self._say("done", seen, f"done, {_count(seen)}; {_score(seen) or 'none has a score'}")
        elif seen.state in ("pause", "stop"):
            what = {"pause": "paused", "stop": "stopped"}[seen.state]
            said = seen.message.removeprefix(f"{what}: ")
            self._say(seen.state, seen, f"{what} ({said}), {_count(seen)}; {RESUME}")

    def gave_up(self, why: str) -> None:
        """`run` cannot go on: every worker has ended."""
        if self._seen is not None and self._seen.state == "run":  # a pause is told already
            self._say("gave_up", self._seen, f"ended, {why}")

    def close(self) -> None:
        """Gives the last posts a little time."""
        try:
            self._waiting.put(None, timeout=TIMEOUT_S)
        except queue.Full:
            return
        self._thread.join(TIMEOUT_S)

    def _say(self, event: str, seen: Observation, news: str) -> None:
        text = f"{seen.study}: {news}"
        try:
            self._waiting.put_nowait(
                {"text": text, "content": text, "event": event, "study": seen.study}
            )
        except queue.Full:
            log.error("the webhook is too slow; not sent: %s", text)

    def _post_all(self) -> None:
        while (body := self._waiting.get()) is not None:
            try:
                request = urllib.request.Request(
                    self._url,
                    data=json.dumps(body).encode(),
                    headers={"Content-Type": "application/json", "User-Agent": "nkat-search"},
                )
                with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                    pass
            except Exception as error:
                # The path of a webhook's address is its password: it stays out of the log.
                host = urlsplit(self._url).hostname
                log.error("webhook at %s: %s; not sent: %s", host, error, body["text"])


def _best(seen: Observation) -> float:
    value = None if seen.best is None else seen.best.value
    return float("-inf") if value is None else value


def _score(seen: Observation) -> str:
    if seen.best is None:
        return ""
    return f"Global TPE score {seen.best.value:.4f} (trial {seen.best.number})"


def _count(seen: Observation) -> str:
    return f"{seen.counts.done} of {seen.counts.budget} trials count"


@contextmanager
def notified(url: str | None) -> Iterator[Notifier | None]:
    """Posts news while the block lasts; None posts nothing.

    Raises:
        BadInput: it is no web address.
    """
    if not url:
        yield None
        return
    if not is_web_address(url):
        raise BadInput(f"--notify {url}: must be {WEB_ADDRESS}")
    notifier = Notifier(url=url)
    try:
        yield notifier
    finally:
        notifier.close()
