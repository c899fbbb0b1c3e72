"""Provenance: absent is absent, present is read, and none of it is in the report."""

from __future__ import annotations

import datetime
import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from faceproof.evidence.credentials import read_credentials
from faceproof.evidence.metadata import edit_lists
from faceproof.evidence.provenance import read_provenance
from faceproof.evidence.recompression import DOUBLE, jpeg_history, quality_of
from faceproof.media import Limits
from faceproof.results import Report


def signer() -> Any:
    """A C2PA signer with a certificate chain made on the spot."""
    import c2pa
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    start = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)

    def certificate(name: str, key: Any, issuer: Any = None, issuer_key: Any = None) -> Any:
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Faceproof tests"),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        root = issuer is None
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
        ) | dict.fromkeys(("encipher_only", "decipher_only"), False)
        made = (
            x509.CertificateBuilder(issuer.subject if issuer else subject, subject, key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=36500))
            .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer_key or key).public_key()), critical=False
            )
            .add_extension(
                x509.KeyUsage(digital_signature=True, key_cert_sign=root, crl_sign=root, **usage), critical=True
            )
        )
        if not root:
            made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        return made.sign(issuer_key or key, hashes.SHA256())

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificate("Test root", root_key)
    leaf = certificate("Test camera", key, root, root_key)
    chain = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (leaf, root))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return c2pa.Signer.from_info(c2pa.C2paSignerInfo(alg=b"es256", sign_cert=chain, private_key=pem, ta_url=None))


@pytest.fixture(scope="module")
def signed_jpeg() -> bytes:
    import c2pa

    source, out = io.BytesIO(), io.BytesIO()
    Image.fromarray(data.astronaut()).save(source, "JPEG")
    source.seek(0)
    kind = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    manifest = {
        "claim_generator_info": [{"name": "test-camera", "version": "1"}],
        "title": "portrait",
        "format": "image/jpeg",
        "assertions": [
            {
                "label": "c2pa.actions",
                "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": kind}]},
            }
        ],
    }
    c2pa.Builder(manifest).sign(signer(), "image/jpeg", source, out)
    return out.getvalue()


def test_credentials_are_read_and_checked(signed_jpeg: bytes, tmp_path: Path) -> None:
    path = tmp_path / "signed.jpg"
    path.write_bytes(signed_jpeg)
    found = read_credentials(path)
    assert found.status == "valid"
    assert found.signer == "Test camera"
    assert found.trusted is False
    assert found.actions == ["c2pa.created"]
    assert found.generated == "all"
    assert found.problems == []


def test_a_change_after_signing_is_seen(signed_jpeg: bytes, tmp_path: Path) -> None:
    changed = bytearray(signed_jpeg)
    changed[-2000] ^= 0xFF
    path = tmp_path / "changed.jpg"
    path.write_bytes(changed)
    found = read_credentials(path)
    assert found.status == "invalid"
    assert "assertion.dataHash.mismatch" in found.problems


def test_absent_means_absent(astronaut_jpg: Path, clip_mp4: Path, clip_variants: dict[str, Path]) -> None:
    for path in (astronaut_jpg, clip_mp4, clip_variants["mkv"], clip_variants["avi"]):
        assert read_credentials(path).status == "absent"


def test_no_network_is_ever_asked() -> None:
    from faceproof.evidence import credentials

    assert credentials._SETTINGS["verify"]["remote_manifest_fetch"] is False
    assert credentials._SETTINGS["verify"]["ocsp_fetch"] is False


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_exif_text_is_read_as_it_was_written(encoding: str, astronaut: np.ndarray, tmp_path: Path) -> None:
    text = "© Zoë Müller"
    exif = Image.Exif()
    exif[0x8298] = text.encode(encoding)  # Copyright
    exif[0x9C9B] = "Überschrift".encode("utf-16-le") + b"\0\0"  # XPTitle
    path = tmp_path / "named.jpg"
    Image.fromarray(astronaut).save(path, exif=exif)
    found = read_provenance(path).metadata.exif
    assert found["Copyright"] == text
    assert found["XPTitle"] == "Überschrift"


def test_exif_xmp_and_location(astronaut: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "tagged.jpg"
    exif = Image.Exif()
    exif[0x010F], exif[0x0131] = "Acme", "Acme Editor 3\x1b[31m"
    exif.get_ifd(0x8825)[1] = "N"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description xmp:CreatorTool="Acme Paint 9"/></x:xmpmeta>'
    Image.fromarray(astronaut).save(path, exif=exif, xmp=xmp)
    found = read_provenance(path)
    assert found.metadata.exif["Make"] == "Acme"
    assert "\x1b" not in found.metadata.exif["Software"]
    assert found.metadata.xmp == {"CreatorTool": "Acme Paint 9"}
    assert found.metadata.encoders[-1] == "Acme Paint 9"
    assert found.metadata.has_location
    plain = tmp_path / "plain.png"
    Image.fromarray(astronaut).save(plain)
    bare = read_provenance(plain)
    assert (bare.metadata.exif, bare.metadata.xmp, bare.metadata.has_location, bare.hints) == ({}, {}, False, [])


def test_containers_and_encoders(clip_mp4: Path) -> None:
    found = read_provenance(clip_mp4)
    assert found.metadata.streams[0]["codec"] == "h264"
    assert any(name.startswith("Lavf") for name in found.metadata.encoders)
    assert any(name.startswith("x264 - core") for name in found.metadata.encoders)
    assert found.metadata.edit_lists == [0, 0]
    assert {hint.code for hint in found.hints} == {"encoder", "no_creation_time"}
    assert len(found.sha256) == 64
    assert found.sha256 != found.sha1


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


@pytest.mark.parametrize(
    ("edits", "expected"),
    [([(1000, 0)], 0), ([(1000, 1024)], 0), ([(500, -1), (1000, 0)], 0), ([(1000, 90_000)], 1), ([(9, 0), (9, 50)], 1)],
)
def test_edit_lists_that_cut(edits: list[tuple[int, int]], expected: int) -> None:
    entries = b"".join(struct.pack(">Iii", length, start, 1 << 16) for length, start in edits)
    elst = _box(b"elst", struct.pack(">II", 0, len(edits)) + entries)
    moov = _box(b"moov", _box(b"trak", _box(b"edts", elst)))
    assert edit_lists(io.BytesIO(_box(b"ftyp", b"isom\0\0\0\0") + moov)) == [expected]


@pytest.mark.parametrize("content", [b"", b"\0" * 40, _box(b"ftyp", b"isom") + b"\0\0\0\1moov\0", b"\xff" * 64])
def test_boxes_that_lie_do_no_harm(content: bytes) -> None:
    assert edit_lists(io.BytesIO(content)) == []


def test_double_compression_is_told_from_single(tmp_path: Path) -> None:
    """On six pictures: no single save is called double, and at least 9 of 10 saves after a lower-quality one are."""
    path, limits = tmp_path / "x.jpg", Limits()
    singles, doubles = [], []
    for name in ("astronaut", "coffee", "chelsea", "rocket", "camera", "gravel"):
        # Reduced, so that no earlier compression of the sample itself is left.
        picture = Image.fromarray(cv2.resize(getattr(data, name)(), None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA))
        picture = picture.convert("RGB")
        for last in (75, 90, 95):
            picture.save(path, quality=last)
            history = jpeg_history(path, limits)
            assert history is not None
            assert history[0] == last
            singles.append(history[1])
            first = io.BytesIO()
            picture.save(first, "JPEG", quality=last - 15)
            Image.open(first).save(path, quality=last)
            again = jpeg_history(path, limits)
            assert again is not None
            doubles.append(again[1])
    assert max(singles) < DOUBLE
    assert np.mean(np.asarray(doubles) >= DOUBLE) >= 0.9


def test_what_is_no_jpeg_has_no_history(astronaut_png: Path, clip_mp4: Path, damaged: dict[str, Path]) -> None:
    for path in (astronaut_png, clip_mp4, damaged["text"]):
        assert jpeg_history(path, Limits()) is None
    assert quality_of([1] * 64) >= 99


def test_provenance_is_no_part_of_the_report() -> None:
    words = Report.model_json_schema()["properties"]
    assert not {"provenance", "credentials", "exif", "c2pa"} & set(words)
