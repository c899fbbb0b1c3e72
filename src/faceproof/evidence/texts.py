"""The words of overlays, pages and evidence folders, in one place for translation; the verdict's are in ``wording``."""

from __future__ import annotations

CURVE_TITLE = "Frame Suspicion Analysis"
BOX_LABEL = "{person}  {score:.2f}"
BAR = "Frame Suspicion: {score:.2f}"
BAR_NO_FACE = "Frame Suspicion: no face"
