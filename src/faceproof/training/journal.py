"""What a run writes while it runs: a CSV for people and plots, TensorBoard, MLflow when asked, a progress bar.

`metrics.csv` has one row per epoch, `steps.csv` one row per `EVERY` steps. Both are appended to on resume.
MLflow is used when the environment variable MLFLOW_TRACKING_URI is set and mlflow is installed.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EVERY = 20


class Journal:
    """Opened around the loop; `quiet` (other processes, tests) writes nothing at all."""

    def __init__(self, out: Path, total: int, start: int, quiet: bool) -> None:
        self.out, self.quiet, self._step = out, quiet, start
        self._sums: dict[str, float] = {}
        self._count = 0
        self._boards: list[Any] = []
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  {task.fields[speed]:.0f} pictures/s"), disable=quiet,
        )  # fmt: skip
        self._task = self._progress.add_task("training", total=total, completed=start, loss=float("nan"), speed=0.0)

    def __enter__(self) -> Journal:
        if not self.quiet:
            self.out.mkdir(parents=True, exist_ok=True)
            self._boards = [board for board in (_tensorboard(self.out), _mlflow(self.out.name)) if board]
        self._progress.start()
        return self

    def step(self, step: int, values: dict[str, float]) -> None:
        """Note one step; every `EVERY` steps their means are written."""
        self._step = step
        if self.quiet:
            return
        for key, value in values.items():
            self._sums[key] = self._sums.get(key, 0.0) + value
        self._count += 1
        self._progress.update(self._task, completed=step, loss=values["loss"], speed=values["pictures_per_s"])
        if step % EVERY == 0:
            means = {key: value / self._count for key, value in self._sums.items()}
            self._sums, self._count = {}, 0
            self._write("steps.csv", {"step": step, **means})
            self._log(means, "step/")

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Note an epoch's scores."""
        if self.quiet:
            return
        self._write("metrics.csv", {"epoch": epoch, "step": self._step, **metrics})
        self._log(metrics, "epoch/")
        shown = "  ".join(
            f"{key} {value:.3f}" for key, value in metrics.items() if "_" not in key or key.startswith("held")
        )
        self._progress.console.print(f"epoch {epoch}: {shown}")

    def note(self, words: str) -> None:
        """Print a line above the progress bar."""
        if not self.quiet:
            self._progress.console.print(words, highlight=False)

    def _write(self, name: str, row: dict[str, float]) -> None:
        path = self.out / name
        fresh = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(row)
            writer.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in row.values())

    def _log(self, values: dict[str, float], prefix: str) -> None:
        for board in self._boards:
            board({prefix + key: value for key, value in values.items()}, self._step)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        for board in self._boards:
            board(None, self._step)


def _tensorboard(out: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    writer = SummaryWriter(str(out / "tensorboard"))

    def log(values: dict[str, float] | None, step: int) -> None:
        if values is None:
            writer.close()
            return
        for key, value in values.items():
            writer.add_scalar(key, value, step)

    return log


def _mlflow(name: str) -> Any:
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    try:
        import mlflow
    except ImportError:
        return None
    mlflow.start_run(run_name=name)

    def log(values: dict[str, float] | None, step: int) -> None:
        if values is None:
            mlflow.end_run()
        else:
            mlflow.log_metrics(values, step=step)

    return log
