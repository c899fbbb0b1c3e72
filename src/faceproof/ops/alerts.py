"""Telling somebody: alerts to the log and to a web address. What cannot be told is logged and never stops a scan."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from faceproof.errors import OptionError

log = logging.getLogger("faceproof.ops")


class Webhook:
    """Posts alerts as JSON. With a ``secret`` the header ``X-Faceproof-Signature`` holds the body's HMAC-SHA256 in hex."""

    def __init__(self, url: str, *, secret: str = "", timeout: float = 5.0, attempts: int = 3) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise OptionError(f"an alert's address must start with http:// or https://, not {url!r}")
        self.url, self._secret, self._timeout, self._attempts = url, secret, timeout, attempts

    def send(self, alert: Mapping[str, Any]) -> bool:
        """Whether the address took the alert; a failure is logged."""
        body = json.dumps(alert, sort_keys=True).encode()
        headers = {"Content-Type": "application/json"}
        if self._secret:
            headers["X-Faceproof-Signature"] = hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
        request = urllib.request.Request(self.url, body, headers, method="POST")
        why = ""
        for _ in range(self._attempts):
            try:
                with urllib.request.urlopen(request, timeout=self._timeout):
                    return True
            except (urllib.error.URLError, OSError) as error:
                why = str(error)
        log.error("alert not delivered to %s: %s", self.url, why)
        return False


def tell(alert: Mapping[str, Any], webhook: Webhook | None = None) -> None:
    """Log one alert and post it where there is a webhook."""
    log.warning("alert %s", json.dumps(alert, sort_keys=True))
    if webhook is not None:
        webhook.send(alert)
