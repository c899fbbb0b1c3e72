"""Files in an S3-compatible bucket, for services of several machines. Needs ``boto3``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faceproof.errors import MissingExtraError, OptionError, OutputError
from faceproof.service.tables import new_id

CHUNK = 1 << 18


class BucketFiles:
    """Objects below ``s3://bucket/prefix``. Credentials and endpoint come from boto3's usual variables
    (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL_S3``)."""

    keeps_at_once = False

    def __init__(self, address: str, data: Path) -> None:
        scheme, _, rest = address.partition("://")
        self._bucket, _, prefix = rest.partition("/")
        if scheme != "s3" or not self._bucket:
            raise OptionError(f"storage cannot be {address!r}", remedy="Write s3://bucket/prefix, or leave it empty.")
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        try:
            import boto3
        except ImportError as error:
            raise MissingExtraError.of("S3 storage", "serve") from error
        self._s3: Any = boto3.client("s3")
        self._incoming = data / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)

    def incoming(self) -> Path:
        return self._incoming / new_id()

    def keep(self, path: Path, name: str) -> None:
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError

        try:
            self._s3.upload_file(str(path), self._bucket, self._prefix + name)
        except (S3UploadFailedError, BotoCoreError) as error:
            raise OutputError("the bucket did not take the file", remedy="Look at the storage's own logs.") from error
        path.unlink()

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        from botocore.exceptions import ClientError

        with tempfile.TemporaryDirectory(dir=self._incoming) as folder:
            path = Path(folder) / "file"
            try:
                self._s3.download_file(self._bucket, self._prefix + name, str(path))
            except ClientError as error:
                raise FileNotFoundError(name) from error
            yield path

    def path(self, name: str) -> Path | None:
        return None

    def size(self, name: str) -> int | None:
        from botocore.exceptions import ClientError

        try:
            return int(self._s3.head_object(Bucket=self._bucket, Key=self._prefix + name)["ContentLength"])
        except ClientError:
            return None

    def chunks(self, name: str, start: int, count: int) -> Iterator[bytes]:
        wanted = f"bytes={start}-{start + count - 1}"
        answer = self._s3.get_object(Bucket=self._bucket, Key=self._prefix + name, Range=wanted)
        yield from answer["Body"].iter_chunks(CHUNK)

    def delete(self, prefix: str) -> None:
        keys = [self._prefix + prefix, *(self._prefix + name for name, _ in self.names(prefix))]
        for start in range(0, len(keys), 1000):
            objects = [{"Key": key} for key in keys[start : start + 1000]]
            self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})

    def names(self, prefix: str) -> list[tuple[str, float]]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{self._prefix}{prefix}/"
        )
        return [
            (entry["Key"].removeprefix(self._prefix), entry["LastModified"].timestamp())
            for page in pages
            for entry in page.get("Contents", ())
        ]

    def free(self) -> int | None:
        return None
