"""Who is scored by which detector: experiments that split traffic by a hash, and shadows that never change an answer.

An answer depends on the experiment's name and the key alone: the same on every machine, after every restart. The key is
the file's sha256, or a customer's id where one customer must always meet the same arm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from faceproof.detectors.catalog import home
from faceproof.errors import FaceproofError, OptionError
from faceproof.ops.trials import Trial, TrialStore
from faceproof.result_files import write_whole
from faceproof.results import FailedInput, Report

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)]


class Arm(BaseModel):
    """One detector of an experiment. ``share`` of the traffic is scored by it: exclusively in an A/B test, beside the
    control in a shadow test."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    detector: str
    share: Share


class Guardrails(BaseModel):
    """What stops an arm. Differences are to the control; None is not watched.

    ``error_rate`` and ``fake_rate`` are the worst increase tolerated (shares, 0 to 1), ``seconds`` the worst increase of
    the mean time of a scan. ``false_stops`` is the probability of stopping a harmless arm, over all looks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    error_rate: float | None = 0.02
    fake_rate: float | None = None
    seconds: float | None = None
    false_stops: Annotated[float, Field(gt=0, lt=1)] = 0.01
    min_trials: Annotated[int, Field(ge=2)] = 30


class Experiment(BaseModel):
    """A split of traffic. The first arm is the control.

    ``kind`` ab: each key meets one arm, chosen by ``share``; what the shares leave over goes to the control.
    ``kind`` shadow: the control answers everybody; each other arm is also run on its share, and only recorded.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    kind: Literal["ab", "shadow"] = "ab"
    arms: Annotated[tuple[Arm, ...], Field(min_length=2)]
    guardrails: Guardrails = Guardrails()
    stopped: dict[str, str] = Field(default_factory=dict)
    looks: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _arms_fit(self) -> Self:
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names):
            raise ValueError("two arms have the same name")
        if self.kind == "ab" and sum(arm.share for arm in self.arms) > 1 + 1e-9:
            raise ValueError("the arms' shares add up to more than 1")
        if set(self.stopped) - set(names[1:]):
            raise ValueError("only an arm that is not the control can be stopped")
        return self

    @property
    def control(self) -> Arm:
        return self.arms[0]

    def route(self, key: str) -> Arm:
        """The arm that answers ``key``. A stopped arm's share goes to the control; nobody else changes arms."""
        if self.kind == "shadow":
            return self.control
        place, reached = fraction(self.name, key), 0.0
        # Counted from the far end, so that growing an arm's share at the control's cost moves nobody between others.
        for arm in self.arms[1:]:
            reached += arm.share
            if place < reached:
                return self.control if arm.name in self.stopped else arm
        return self.control

    def shadows(self, key: str) -> list[Arm]:
        """The arms to run besides, for the record only; none in an A/B test."""
        if self.kind == "ab":
            return []
        return [
            arm
            for arm in self.arms[1:]
            if arm.name not in self.stopped and fraction(f"{self.name}/{arm.name}", key) < arm.share
        ]

    def without(self, arm: str, why: str) -> Experiment:
        """The experiment with one arm stopped."""
        return Experiment.model_validate({**self.model_dump(), "stopped": {**self.stopped, arm: why}})

    def save(self, folder: Path | None = None) -> Path:
        """Write to ``folder`` (by default ``experiments`` in the user's model folder)."""
        path = (folder or default_folder()) / f"{self.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, self.model_dump_json(indent=2) + "\n")
        return path

    @classmethod
    def load(cls, name: str, folder: Path | None = None) -> Experiment:
        """Raises :class:`OptionError` when there is none or its file is wrong."""
        place = folder or default_folder()
        path = place / f"{name}.json"
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            known = ", ".join(sorted(one.stem for one in place.glob("*.json"))) or "none"
            raise OptionError(f"no experiment is called {name!r}", remedy=f"There are: {known}.") from None
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise OptionError(f"{path} is not an experiment: {error}", remedy="Create it anew.") from error


def default_folder() -> Path:
    return home() / "experiments"


def fraction(salt: str, key: str) -> float:
    """A number in [0, 1), even over keys, fixed for a salt and a key, unrelated between salts."""
    digest = hashlib.sha256(f"{salt}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


Score = Callable[[str], Report | FailedInput]


def run(experiment: Experiment, key: str, score: Score, trials: TrialStore) -> Report | FailedInput:
    """Answer one file as the experiment says, and record what every arm did.

    ``score`` scans the file with the detector of the name it is given. Whatever a shadow does or raises, the answer is
    the control's. Errors of the answering arm are raised as they are.
    """
    arm = experiment.route(key)
    answer = score(arm.detector)
    trials.add(Trial.of(experiment.name, arm.name, key, answer))
    for shadow in experiment.shadows(key):
        try:
            outcome: Report | FailedInput = score(shadow.detector)
        except FaceproofError as error:
            outcome = FailedInput(path="", error=error.code, message=error.message, remedy=error.remedy)
        except Exception as error:  # noqa: BLE001 - a shadow must never change the answer
            outcome = FailedInput(path="", error="shadow", message=str(error), remedy="")
        trials.add(Trial.of(experiment.name, shadow.name, key, outcome))
    return answer
