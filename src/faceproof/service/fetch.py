"""Fetching a video by its address, in a worker process, when the operator allows it."""

from __future__ import annotations

import hashlib
import time

from faceproof.service.files import room_needed
from faceproof.service.outward import AddressError, request
from faceproof.service.running import StoppedError, insert_medium
from faceproof.service.site import Site
from faceproof.service.sniffing import SNIFFED_BYTES, require_media
from faceproof.service.tables import Job

CHUNK = 1 << 18


def fetch_medium(site: Site, job: Job) -> str:
    """Download what ``job.source_url`` names and attach it to the job. Returns the medium's id.

    Raises :class:`StoppedError` for a job that was erased meanwhile, :class:`AddressError`,
    :class:`faceproof.errors.MediaError` for what is not media, and :class:`faceproof.errors.OutputError` when there is no
    room.
    """
    settings = site.settings
    assert job.source_url is not None
    ends = time.monotonic() + settings.fetch_time
    part = site.files.incoming()
    digest, size, head = hashlib.sha256(), 0, b""
    try:
        with (
            request("GET", job.source_url, timeout=settings.fetch_time, private=settings.private_addresses) as answer,
            room_needed(),
            part.open("wb") as file,
        ):
            if answer.status != 200:
                raise AddressError(f"the address answered {answer.status}")
            while chunk := answer.read(CHUNK):
                size += len(chunk)
                if size > settings.max_upload:
                    raise AddressError(f"the file is larger than {settings.max_upload} bytes")
                if time.monotonic() > ends:
                    raise AddressError("the file took too long to arrive")
                head = head or chunk[:SNIFFED_BYTES]
                digest.update(chunk)
                file.write(chunk)
        mime = require_media(head)
        medium = insert_medium(site, sha256=digest.hexdigest(), size=size, mime=mime)
        name = f"media/{medium.id}"
        site.files.keep(part, name)
        with site.store.write() as session:
            stored = session.get(Job, job.id, with_for_update=True)
            if stored is not None:
                session.add(medium)
                session.flush()
                stored.media_id = medium.id
        if stored is None:  # a medium without a job would stay for ever
            site.files.delete(name)
            raise StoppedError
        return medium.id
    finally:
        part.unlink(missing_ok=True)
