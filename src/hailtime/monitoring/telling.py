"""Where messages go: the log, a webhook, Alertmanager. One that cannot be reached keeps nobody else waiting.

tellers = read_tellers({"webhook": "https://chat.example/hook", "alertmanager": "http://127.0.0.1:9093"})
tell(tellers, message, {"version": "7"})
"""

import json
import logging
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from hailtime.errors import ConfigError, did_you_mean
from hailtime.monitoring.alerts import Message

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0


class Teller(Protocol):
    """Sends a message; raises OSError when it did not arrive."""

    def tell(self, message: Message, labels: Mapping[str, str]) -> None: ...


class LogTeller:
    """A line in the log: a warning when something begins."""

    def tell(self, message: Message, labels: Mapping[str, str]) -> None:
        log.log(logging.WARNING if message.kind == "firing" else logging.INFO, "%s", message.text)


class Webhook:
    """A POST of JSON: kind, alerts, text, cause, next_command, values, at and the labels. `text` is what chats show."""

    def __init__(self, url: str) -> None:
        self.url = _checked_url("webhook", url)

    def tell(self, message: Message, labels: Mapping[str, str]) -> None:
        cause = {"cause": message.cause.kind, "next_command": message.cause.next_command}
        told = {"kind": message.kind, "alerts": message.alerts, "text": message.text, "values": dict(message.values)}
        _post(self.url, {**told, **cause, "at": _time(message.at_s), "labels": dict(labels)})


class Alertmanager:
    """Alertmanager's own interface, version 2: it groups, silences and routes."""

    def __init__(self, url: str) -> None:
        self.url = f"{_checked_url('alertmanager', url).rstrip('/')}/api/v2/alerts"

    def tell(self, message: Message, labels: Mapping[str, str]) -> None:
        when = {"startsAt" if message.kind == "firing" else "endsAt": _time(message.at_s)}
        notes = {"summary": message.cause.sentence or message.text, "next_command": message.cause.next_command}
        # labels name an alert, so they are the same when it is over; what was seen is in the annotations
        alerts = [
            {"labels": {**labels, "alertname": f"hailtime_{name}"}, "annotations": notes, **when}
            for name in message.alerts
        ]
        _post(self.url, alerts)


_KINDS: dict[str, Any] = {"webhook": Webhook, "alertmanager": Alertmanager}


def read_tellers(settings: Mapping[str, str | None]) -> list[Teller]:
    """The log, and those that have a URL. ConfigError names the one that cannot work."""
    for name in settings:
        if name not in _KINDS:
            raise ConfigError(f"alerts are told to {' or '.join(_KINDS)}, got {name!r}{did_you_mean(name, _KINDS)}")
    return [LogTeller(), *(_KINDS[name](url) for name, url in settings.items() if url)]


def tell(tellers: Sequence[Teller], message: Message, labels: Mapping[str, str]) -> int:
    """Tells everybody. How many did not hear it; the log says who and why."""
    n_failed = 0
    for teller in tellers:
        try:
            teller.tell(message, labels)
        except OSError as error:
            n_failed += 1
            log.error("%s did not hear of %s: %s", type(teller).__name__, ", ".join(message.alerts), error)
    return n_failed


def _post(url: str, content: Any) -> None:
    request = urllib.request.Request(
        url, json.dumps(content).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # URLError and HTTPError are OSErrors
        pass


def _checked_url(name: str, url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{name} must be an http:// or https:// URL, got {url!r}")
    return url


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()
