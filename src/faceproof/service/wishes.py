"""What a caller wants done with a file: the options beside it, checked one by one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from faceproof.errors import OptionError
from faceproof.service.callers import Caller
from faceproof.service.outward import AddressError, resolve
from faceproof.service.problems import Problem
from faceproof.service.settings import parse_span
from faceproof.service.site import Site

_FRAMES = re.compile(r"auto|all|[1-9]\d{0,5}|every:[1-9]\d{0,5}", re.ASCII)
_FIELDS = ("detector", "frames", "faces", "evidence", "priority", "keep", "webhook", "fresh", "url")


@dataclass(frozen=True)
class Wish:
    """What a caller wants done with a file, checked."""

    detector: str
    frames: str
    faces: str
    evidence: bool
    priority: int
    keep: float
    webhook: str | None
    fresh: bool
    url: str | None

    @property
    def options(self) -> dict[str, Any]:
        return {"frames": self.frames, "faces": self.faces, "evidence": self.evidence}


def read_wish(site: Site, caller: Caller, fields: dict[str, str], *, priority: int = 0) -> Wish:
    """Check the form's options. Raises :class:`OptionError` and the like, each naming the field."""
    for name in fields:
        if name not in _FIELDS:
            raise OptionError(f"unknown option {_shown(name)}", remedy=f"Options are {', '.join(_FIELDS)}.")
    detector = fields.get("detector") or site.detectors.default
    site.detectors.fingerprint(detector)
    frames = fields.get("frames") or "auto"
    if not _FRAMES.fullmatch(frames):
        raise OptionError(f"frames cannot be {_shown(frames)}", remedy="Use auto, a count, every:K or all.")
    faces = fields.get("faces") or "thorough"
    if faces not in ("thorough", "fast"):
        raise OptionError(f"faces cannot be {_shown(faces)}", remedy="Use thorough or fast.")
    return Wish(
        detector=detector,
        frames=frames,
        faces=faces,
        evidence=_yes("evidence", fields.get("evidence", "true")),
        priority=_priority(fields.get("priority"), caller) or priority,
        keep=_keep(fields.get("keep"), site.settings.keep),
        webhook=_address(fields.get("webhook"), site, "webhook"),
        fresh=_yes("fresh", fields.get("fresh")),
        url=_address(fields.get("url"), site, "url"),
    )


def require_public(site: Site, wish: Wish) -> None:
    """Ask the name server about the wish's addresses, which takes its time. Raises :class:`AddressError`."""
    private = site.settings.private_addresses
    if wish.url:
        resolve(wish.url, private=private)
    if wish.webhook:
        try:
            resolve(wish.webhook, private=private)
        except AddressError as error:
            remedy = "Give a public http or https address that takes a POST."
            raise AddressError(f"webhook: {error.message}", remedy=remedy) from error


def _shown(text: str) -> str:
    return ascii(text[:60])


def _priority(text: str | None, caller: Caller) -> int:
    if not text:
        return 0
    if not re.fullmatch(r"-?\d", text, re.ASCII):
        raise OptionError(f"priority cannot be {_shown(text)}", remedy="Use a whole number from -9 to 9.")
    if int(text) > 0 and not caller.may("admin"):
        raise Problem(
            403, "scope", "only keys with the scope admin may jump the queue", "Leave priority at 0 or below."
        )
    return int(text)


def _keep(text: str | None, most: float) -> float:
    if not text:
        return most
    try:
        keep = float(parse_span(text))
    except ValueError:
        raise OptionError(f"keep cannot be {_shown(text)}", remedy="Write a time such as 7d, 12h or 90s.") from None
    if keep <= 0:
        raise OptionError(f"keep cannot be {_shown(text)}", remedy="Write a time such as 7d, 12h or 90s.")
    if keep > most:
        raise OptionError("keep is longer than this server keeps anything", remedy=f"At most {most:g} s.")
    return keep


def _yes(field: str, text: str | None) -> bool:
    if text in (None, "", "false", "False", "0", "no"):
        return False
    if text in ("true", "True", "1", "yes", "on"):
        return True
    raise OptionError(f"{field} cannot be {_shown(str(text))}", remedy="Use true or false.")


def _address(text: str | None, site: Site, field: str) -> str | None:
    if not text:
        return None
    if field == "url" and not site.settings.fetch_urls:
        raise Problem(403, "fetch_off", "this server does not fetch addresses", "Upload the file itself.")
    if not (text.isascii() and text.isprintable()) or len(text) > 2000:
        raise OptionError(f"{field} is not a web address", remedy="Encode other characters as %XX.")
    return text
