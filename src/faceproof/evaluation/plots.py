"""Drawings of an evaluation, all in one style that survives print and colour-blind eyes: SVG text, never a window."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas

from faceproof.evaluation.bootstrap import Estimate
from faceproof.evaluation.evaluation import Drawn, Evaluation
from faceproof.evaluation.robustness import Curve, CurvePoint

FAKE, REAL, GREY = "#D55E00", "#0072B2", "#8A8A8A"

_STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": "#222222",
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "faceproof",
    "figure.facecolor": "white",
}


def _canvas(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Canvas, Any]:
    canvas = Canvas(figsize=(width, height), layout="constrained")
    return canvas, canvas.subplots(rows, columns, squeeze=False, **options)


def _svg(canvas: Canvas) -> str:
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "faceproof"})
    return buffer.getvalue()


def roc(curves: Sequence[tuple[str, Drawn, Estimate]]) -> str:
    """ROC curves, each with its name and AUROC, over the diagonal of chance."""
    with mpl.rc_context(_STYLE):
        canvas, axes = _canvas(4.4, 4.2)
        axis = axes[0, 0]
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        axis.text(0.62, 0.57, "chance", color="#666666", fontsize=8.5, rotation=45, rotation_mode="anchor")
        styles = ((FAKE, "-"), (REAL, "--"), ("#009E73", "-."), ("#555555", ":"))
        for (name, drawn, area), (colour, line) in zip(curves, styles, strict=False):
            axis.plot(drawn.fpr, drawn.tpr, color=colour, linestyle=line, label=f"{name}: {area}")
        axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axis.set_xlabel("share of reals flagged")
        axis.set_ylabel("share of fakes flagged")
        axis.legend(loc="lower right")
        return _svg(canvas)


def histogram(drawn: Drawn, threshold: float, band: tuple[float, float] | None = None) -> str:
    """Scores of fakes above the line and of reals below it, with the threshold and the undecided band."""
    with mpl.rc_context(_STYLE):
        canvas, axes = _canvas(6.4, 2.6)
        axis = axes[0, 0]
        count = len(drawn.histogram_fake)
        places = (np.arange(count) + 0.5) / count
        fakes = np.array(drawn.histogram_fake) / max(1, sum(drawn.histogram_fake))
        reals = np.array(drawn.histogram_real) / max(1, sum(drawn.histogram_real))
        axis.bar(places, fakes, width=0.9 / count, color=FAKE)
        axis.bar(places, -reals, width=0.9 / count, color=REAL, hatch="///", edgecolor="white", linewidth=0)
        axis.axhline(0, color="#333333", linewidth=0.8)
        top = 1.15 * max(fakes.max(), reals.max())
        if band is not None and band[0] < band[1]:
            axis.axvspan(*band, color=GREY, alpha=0.22, linewidth=0)
        axis.axvline(threshold, color="#333333", linewidth=1, linestyle=(0, (4, 3)))
        axis.text(threshold, top * 1.02, f" threshold {threshold:.2g}", fontsize=8, va="bottom", ha="center")
        axis.text(1.0, top * 0.97, "fakes", color="#A34600", ha="right", va="top")
        axis.text(1.0, -top * 0.97, "reals", color=REAL, ha="right", va="bottom")
        axis.set(xlim=(0, 1), ylim=(-top, top))
        axis.set_xlabel("score")
        axis.set_ylabel("share of the class")
        axis.set_yticks(ticks := axis.get_yticks(), [f"{abs(tick):.2g}" for tick in ticks])
        axis.set(ylim=(-top, top))
        return _svg(canvas)


def reliability(drawn: Drawn) -> str:
    """Score against the share that is fake, a dot per bin, its area by the files in it."""
    with mpl.rc_context(_STYLE):
        canvas, axes = _canvas(4.4, 4.2)
        axis = axes[0, 0]
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        full = [(b.score, b.fakes, b.rows) for b in drawn.reliability if b.score is not None and b.fakes is not None]
        score, fakes, rows = (np.array(column, dtype=float) for column in zip(*full, strict=True))
        axis.plot(score, fakes, color=FAKE, linewidth=1)
        axis.scatter(score, fakes, s=18 + 180 * rows / rows.max(), color=FAKE, edgecolor="white", zorder=3)
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axis.set_xlabel("score, read as a probability")
        axis.set_ylabel("share that is fake")
        return _svg(canvas)


def slices(evaluation: Evaluation) -> str | None:
    """AUROC of every slice with its interval, chance marked; None when no slice has one."""
    shown = [part for part in evaluation.slices if part.auroc.value is not None]
    if not shown:
        return None
    with mpl.rc_context(_STYLE):
        canvas, axes = _canvas(6.4, 0.7 + 0.26 * len(shown))
        axis = axes[0, 0]
        for row, part in enumerate(shown):
            value, low, high = part.auroc.value, part.auroc.low, part.auroc.high
            blind = low is None or low <= 0.5
            colour = GREY if blind else REAL
            if low is not None and high is not None:
                axis.plot([low, high], [row, row], color=colour, linewidth=1.4)
            axis.plot(value, row, marker="o", color=colour, markersize=5, markerfacecolor="white" if blind else colour)
        axis.axvline(0.5, color="#333333", linewidth=1, linestyle=(0, (4, 3)))
        axis.set_yticks(range(len(shown)), [f"{part.by}: {part.name} ({part.scored})" for part in shown])
        axis.set_ylim(len(shown) - 0.5, -0.5)
        axis.set_xlim(0, 1)
        axis.set_xlabel("AUROC, 95 % interval")
        return _svg(canvas)


def robustness(curves: Sequence[Curve], columns: int = 3) -> str:
    """Small panels, one per degradation: AUROC with its interval, false alarms, and a hatched field where the
    detector is not shown to be better than chance."""
    with mpl.rc_context(_STYLE):
        rows = -(-len(curves) // columns)
        canvas, axes = _canvas(7.6, 2.15 * rows + 0.4, rows, columns, sharey=True)
        for axis, curve in zip(axes.flat, curves, strict=False):
            _robustness_panel(axis, curve)
        for axis in axes.flat[len(curves) :]:
            axis.axis("off")
        handles, labels = axes.flat[0].get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside lower center", ncols=4)
        return _svg(canvas)


def _robustness_panel(axis: Any, curve: Curve) -> None:
    places = np.arange(len(curve.points))

    def column(pick: Any) -> np.ndarray:
        return np.array([np.nan if (value := pick(point)) is None else value for point in curve.points], dtype=float)

    low, high = column(lambda p: p.auroc.low), column(lambda p: p.auroc.high)
    axis.axhline(0.5, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    axis.fill_between(places, low, high, color=REAL, alpha=0.18, linewidth=0)
    axis.plot(places, column(lambda p: p.auroc.value), color=REAL, marker="o", markersize=3.5, label="AUROC, 95 %")
    axis.plot(places, column(lambda p: p.false_alarm_rate), color=FAKE, linestyle="--", label="reals flagged")
    axis.plot(places, column(lambda p: p.scored), color="#555555", linestyle=":", label="files scored")
    start = 0.0 if curve.chance_untouched and curve.chance_from is not None else None
    for place, point in enumerate(curve.points):
        if start is None and curve.chance_from is not None and point.severity == curve.chance_from:
            start = place - 0.5
    if start is not None:
        label = "not shown better than chance"
        axis.axvspan(
            start, places[-1] + 0.3, facecolor="none", edgecolor="#BBBBBB", hatch="////", linewidth=0, label=label
        )
    axis.set_title(f"{curve.title} ({curve.unit})")
    axis.set_xticks(places, [_tick(point) for point in curve.points])
    axis.set(ylim=(0, 1.03), xlim=(-0.3, places[-1] + 0.3))


def _tick(point: CurvePoint) -> str:
    return "as is" if point.severity is None else f"{point.severity:g}"
