"""What others made and runs beside the service: Prometheus, Grafana, the proxy with TLS.

Their images come from a registry.  Where one cannot be had, its step says so and does not count
as held.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from stack import Failed, Stack, sh, wait_for

ALERTS = ["NkatCheckpointDisk", "NkatFailureRate", "NkatNoLiveWorker"]
SPOOFED = "203.0.113.9"  # an address that no client of this test has


def image_of(stack: Stack, service: str) -> str:
    """The image that the compose files name for a service."""
    config = json.loads(stack("--profile", "observe", "config", "--format", "json"))
    return str(config["services"][service]["image"])


def can_be_had(image: str) -> bool:
    """On this engine already, or in a registry that answers."""
    if sh("docker", "image", "ls", "--quiet", image).strip():
        return True
    try:
        sh("docker", "pull", "--quiet", image)
    except Failed:
        return False
    return True


def get(url: str, *, login: str | None = None) -> tuple[int, Any]:
    """Status and JSON of an answer; 0 while nobody answers."""
    request = urllib.request.Request(url)
    if login is not None:
        token = base64.b64encode(login.encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return int(response.status), json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, None
    except (OSError, ValueError):
        return 0, None


class Prometheus:
    """The running server's own view of its targets and rules."""

    def __init__(self, port: int) -> None:
        self._api = f"http://127.0.0.1:{port}/api/v1"

    def target_is_up(self) -> bool:
        status, answer = get(f"{self._api}/targets?state=active")
        if status != 200:
            return False
        found = [(t["labels"]["job"], t["health"]) for t in answer["data"]["activeTargets"]]
        return found == [("nkat", "up")]

    def alerts(self) -> list[str]:
        """Names of the alerts that were evaluated without an error."""
        status, answer = get(f"{self._api}/rules?type=alert")
        if status != 200:
            return []
        rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
        return sorted(rule["name"] for rule in rules if rule["health"] == "ok")

    def value(self, expression: str) -> float | None:
        query = urllib.parse.urlencode({"query": expression})
        status, answer = get(f"{self._api}/query?{query}")
        if status != 200 or not answer["data"]["result"]:
            return None
        return float(answer["data"]["result"][0]["value"][1])


class Grafana:
    """The running server, asked with the dashboard's login."""

    def __init__(self, port: int, *, login: str) -> None:
        self._url, self._login = f"http://127.0.0.1:{port}", login

    def panels(self) -> int:
        """Panels of the dashboard that came with it; 0 while there is none."""
        status, answer = get(f"{self._url}/api/dashboards/uid/nkat-search", login=self._login)
        return len(answer["dashboard"]["panels"]) if status == 200 else 0

    def sees(self, expression: str) -> bool:
        """Whether its data source, Prometheus, answers a query through it."""
        query = urllib.parse.urlencode({"query": expression})
        path = f"/api/datasources/proxy/uid/prometheus/api/v1/query?{query}"
        status, answer = get(f"{self._url}{path}", login=self._login)
        return status == 200 and bool(answer["data"]["result"])

    def refuses_strangers(self) -> bool:
        return get(f"{self._url}/api/dashboards/uid/nkat-search")[0] == 401


class TlsSite:
    """The dashboard as another machine sees it: by its name, with a certificate to check.

    Args:
        host: the name in the certificate; it need not be in any DNS.
        port: where the proxy listens on this machine.
        root: the certificate of the proxy's own CA; what it has not signed is refused.
    """

    def __init__(self, *, host: str, port: int, root: str) -> None:
        self._host, self._port = host, port
        self._context = ssl.create_default_context(cadata=root)

    def is_up(self) -> bool:
        """Whether it has its certificate yet; one that its CA has not signed is an error."""
        try:
            return self.get("/healthz")[0] == 200
        except ssl.SSLCertVerificationError:
            raise
        except (OSError, http.client.HTTPException):
            return False

    def get(self, path: str, *, login: str | None = None) -> tuple[int, dict[str, str]]:
        connection = http.client.HTTPConnection(self._host)
        plain = socket.create_connection(("127.0.0.1", self._port), timeout=20)
        connection.sock = self._context.wrap_socket(plain, server_hostname=self._host)
        headers = {"X-Forwarded-For": SPOOFED}
        if login is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}
        finally:
            connection.close()


def proxy_root(stack: Stack) -> str:
    """The root certificate of Caddy's own CA, once it has made one."""
    path = "/data/caddy/pki/authorities/local/root.crt"
    found: str = wait_for(
        "the proxy's CA",
        lambda: stack("exec", "-T", "proxy", "cat", path, check=False).strip(),
        within_s=60,
    )
    return found


def wrong_logins(stack: Stack) -> list[str]:
    """Addresses from which the dashboard heard wrong passwords."""
    return re.findall(r"wrong login from (\S+),", stack("logs", "--no-log-prefix", "dashboard"))
