"""A fleet worker for tests: as the real one, but files with ``kills`` in their name kill their reader."""

import os
import sys

from faceproof.ops import fleet

scan_url = fleet.scan_url


def scan(url: str, options: object) -> object:
    if "kills" in url:
        os._exit(139)
    return scan_url(url, options)  # type: ignore[arg-type]


if __name__ == "__main__":
    fleet.scan_url = scan  # type: ignore[assignment]
    fleet.work(sys.argv[1], processes=int(sys.argv[2]), lease=8)
