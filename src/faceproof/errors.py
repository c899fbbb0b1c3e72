"""Every error Faceproof raises on purpose, and what each asks of the caller.

::

    FaceproofError
    ├── MediaError                 the input cannot be judged as media
    │   ├── MediaNotFoundError     no such file (or a broken symbolic link)
    │   ├── MediaPermissionError   the file may not be read
    │   ├── MediaEmptyError        zero bytes, or a stream without a single frame
    │   ├── MediaUnsupportedError  not a picture or video Faceproof can open
    │   ├── MediaCorruptError      opens, but nothing in it decodes
    │   ├── NoVideoStreamError     a container without a video stream
    │   └── MediaLimitError        over the cap on pixels, duration or bytes
    ├── SpecError                  a detector's record is wrong (unknown key, bad value)
    ├── UnknownDetectorError       no detector of that name is installed
    ├── WeightsError               weights missing, truncated, altered or of another network
    ├── NetworkError               the runtime cannot load or run a network
    ├── DeviceError                the device or precision asked for is not on this machine
    │   └── RuntimeMissingError    the runtime asked for is not installed
    ├── OptionError                an option's value makes no sense
    ├── DatasetError               a manifest or folder of faces cannot be used as asked
    ├── TrainingError              training cannot go on (NaN loss, out of memory, ...)
    ├── EvaluationError            scores or labels that no metric can be computed from
    ├── EvidenceError              evidence cannot be written, or does not verify
    ├── OutputError                a result cannot be written where it was asked for
    ├── MissingExtraError          a feature's optional packages are not installed
    └── of the service, beside its code:
        ├── Problem                an answer of the REST API, with its status (service.problems)
        ├── AddressError           an address that may not be called (service.outward)
        └── TimeUsedUpError        a job used the processor time it may have (service.confinement)

Each error carries ``code`` (stable, for machines) and ``remedy`` (what to do next, for people).
"""

from __future__ import annotations

from typing import ClassVar


class FaceproofError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    message: what is wrong, in one sentence without a full stop.
    remedy: what the reader can do about it.
    """

    code: ClassVar[str] = "error"
    default_remedy: ClassVar[str] = ""

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = self.default_remedy if remedy is None else remedy

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}" if self.remedy else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # The default would rebuild from args alone and lose the remedy between processes.
        return (_rebuild, (type(self), self.message, self.remedy))


def _rebuild(kind: type[FaceproofError], message: str, remedy: str) -> FaceproofError:
    return kind(message, remedy=remedy)


class MediaError(FaceproofError):
    code = "media"


class MediaNotFoundError(MediaError):
    code = "not_found"
    default_remedy = "Check the path; quote names that hold spaces."


class MediaPermissionError(MediaError):
    code = "permission"
    default_remedy = "Give yourself read permission (chmod u+r) and scan again."


class MediaEmptyError(MediaError):
    code = "empty"
    default_remedy = "Fetch the file again; the download or copy was probably cut off."


class MediaUnsupportedError(MediaError):
    code = "unsupported"
    default_remedy = "Convert it to MP4 (H.264) or JPEG, for instance with FFmpeg."


class MediaCorruptError(MediaError):
    code = "corrupt"
    default_remedy = "Fetch the file again from its source."


class NoVideoStreamError(MediaError):
    code = "no_video_stream"
    default_remedy = "Faceproof judges pictures, not sound: give it a file with a video track."


class MediaLimitError(MediaError):
    code = "limit"
    default_remedy = "If you trust the file, raise the limit: --max-pixels, --max-minutes, or the server's settings."


class SpecError(FaceproofError):
    code = "spec"
    default_remedy = "Correct the detector's TOML file."


class UnknownDetectorError(FaceproofError):
    code = "unknown_detector"
    default_remedy = "`faceproof detectors list` shows what is installed."


class WeightsError(FaceproofError):
    code = "weights"
    default_remedy = "Run `faceproof detectors pull NAME` or `faceproof import FILE --as NAME`."


class NetworkError(FaceproofError):
    code = "network"
    default_remedy = "Run `faceproof doctor` to see what this machine can run."


class DeviceError(FaceproofError):
    code = "device"
    default_remedy = "Leave --device and --precision at auto, or run `faceproof doctor`."


class RuntimeMissingError(DeviceError):
    code = "runtime_missing"


class OptionError(FaceproofError):
    code = "option"
    default_remedy = "See `faceproof --help`."


class DatasetError(FaceproofError):
    code = "dataset"


class TrainingError(FaceproofError):
    code = "training"


class EvaluationError(FaceproofError):
    code = "evaluation"


class EvidenceError(FaceproofError):
    code = "evidence"


class OutputError(FaceproofError):
    code = "output"
    default_remedy = "Check that the folder exists, is writable and has room."


class MissingExtraError(FaceproofError):
    """A feature needs packages of an optional extra."""

    code = "missing_extra"

    @classmethod
    def of(cls, feature: str, extra: str) -> MissingExtraError:
        return cls(
            f"{feature} needs packages that are not installed",
            remedy=f"Run `pip install 'faceproof[{extra}]'`.",
        )
