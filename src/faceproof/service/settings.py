"""What the operator decides: every setting, its default and its ``FACEPROOF_…`` name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from faceproof.errors import OptionError

PREFIX = "FACEPROOF_"

_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SPANS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_size(value: Any) -> Any:
    """Bytes from ``"500MB"``, ``"2 GiB"`` or a number."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
        if match is None or match[2].upper() not in _SIZES:
            raise ValueError("write a size such as 500MB or 2GiB")
        return int(float(match[1]) * _SIZES[match[2].upper()])
    return value


def parse_span(value: Any) -> Any:
    """Seconds from ``"7d"``, ``"12h"``, ``"90"`` or a number."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw]?)\s*", value)
        if match is None:
            raise ValueError("write a time such as 7d, 12h or 30s")
        return float(match[1]) * _SPANS[match[2]]
    return value


Bytes = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
Seconds = Annotated[float, BeforeValidator(parse_span), Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


class Settings(BaseModel):
    """All settings. Sizes are bytes and times seconds, whatever the unit they were written in.

    ``database`` empty means SQLite in ``data``; ``broker`` empty means embedded workers on the job table; ``storage``
    empty means files in ``data``. ``auth`` auto asks for keys as soon as the server is reachable from other machines.
    ``device`` is where workers run networks: auto, cpu, cuda and the like.
    ``drift_reference`` is a file as `faceproof drift reference` writes it; ``alert_webhook`` is told of alerts.
    ``cpu_seconds`` bounds one attempt at one job; ``memory``, ``file_size`` and ``open_files`` bound a worker process.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    hosts: str = ""
    data: Path = Path("faceproof-data")
    database: str = ""
    broker: str = ""
    storage: str = ""
    secret: str = ""
    auth: Literal["auto", "keys", "off"] = "auto"

    workers: Annotated[int, Field(ge=0)] = 1
    threads: Annotated[int, Field(ge=0)] = 0
    device: Annotated[str, Field(pattern=r"^[a-z]+$")] = "auto"
    detector: str = ""
    detector_loader: str = "faceproof.service.detectors:Installed"

    max_upload: Bytes = 500_000_000
    max_batch: Count = 100
    max_queued: Count = 1000
    max_pixels: Count = 100_000_000
    max_duration: Seconds = 4 * 3600.0
    keep: Seconds = 7 * 86400.0
    wait: Seconds = 30.0

    lease: Seconds = 30.0
    attempts: Count = 3
    job_time: Seconds = 2 * 3600.0
    cpu_seconds: Count = 4 * 3600
    memory: Bytes = 8 * 2**30
    file_size: Bytes = 4 * 2**30
    open_files: Count = 512

    rate: str = "1200/minute"
    upload_rate: str = "240/minute"
    sign_in_rate: str = "10/minute"

    fetch_urls: bool = False
    private_addresses: bool = False
    fetch_time: Seconds = 120.0
    drift_reference: str = ""
    alert_webhook: str = ""
    log_format: Literal["auto", "json", "text"] = "auto"

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None, **given: Any) -> Self:
        """Settings from ``FACEPROOF_…`` variables; those ``given`` win, None means not given.

        Raises :class:`faceproof.errors.OptionError` that names the setting.
        """
        found = os.environ if environment is None else environment
        values: dict[str, Any] = {
            name: found[PREFIX + name.upper()] for name in cls.model_fields if found.get(PREFIX + name.upper())
        }
        values.update({name: value for name, value in given.items() if value is not None})
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(step) for step in first["loc"])
            where = f"--{name.replace('_', '-')}" if given.get(name) is not None else f"{PREFIX}{name.upper()}"
            wrong = first["msg"].removeprefix("Value error, ").replace("Input should be", "it should be")
            raise OptionError(f"setting {name}: {wrong}", remedy=f"Correct {where}.") from None

    def environment(self) -> dict[str, str]:
        """The variables that make :meth:`read` give these settings again, for worker processes."""
        return {PREFIX + name.upper(): str(value) for name, value in self.model_dump().items() if str(value)}

    @property
    def database_url(self) -> str:
        """SQLAlchemy's address of the job table."""
        if not self.database:
            return f"sqlite:///{self.data.absolute() / 'faceproof.db'}"
        return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", self.database)

    @property
    def needs_keys(self) -> bool:
        """Whether every caller has to bring an API key or a signed-in session."""
        return self.auth == "keys" or (self.auth == "auto" and not is_loopback(self.host))

    @field_validator("hosts")
    @classmethod
    def _names(cls, text: str) -> str:
        for name in filter(None, map(str.strip, text.split(","))):
            if not re.fullmatch(r"\*|(\*\.)?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", name):
                raise ValueError("write names with commas, such as faces.example.org,*.example.org, without ports")
        return text

    @property
    def allowed_hosts(self) -> list[str]:
        """Values of the Host header that are answered; anything else is an attempt at DNS rebinding or a mistake."""
        if self.hosts:
            return [name.strip() for name in self.hosts.split(",") if name.strip()]
        return ["127.0.0.1", "localhost", "[::1]"] if is_loopback(self.host) else ["*"]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to ``host``."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
