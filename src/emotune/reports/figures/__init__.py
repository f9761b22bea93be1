"""Pictures of scores, probabilities, thresholds and training, each as PNG and SVG.

Importing this package needs matplotlib; callers guard for its absence. Names and titles are drawn as they stand, never
read as math; characters that no installed font has become □. The palette and the parts that every picture is made of
are in `style`.
"""

from emotune.reports.figures.comparison import (
    MOST_ENTRIES,
    CostPanel,
    CostPoint,
    label_comparison,
    quality_cost,
)
from emotune.reports.figures.curves import (
    MOST_PANELS,
    LabelCurve,
    precision_recall,
    precision_recall_panel,
    reliability_diagram,
)
from emotune.reports.figures.decisions import confusion_matrix, label_f1
from emotune.reports.figures.style import (
    BLUE,
    EMPTY,
    GAP,
    HEAT,
    INK,
    LIGHT_BLUE,
    LINES,
    LONGEST_NAME,
    LONGEST_SIDE,
    MARGIN,
    MIDDLE,
    PAPER,
    POINTS,
    QUIET,
    RULE,
    TITLE,
    TITLE_LINE,
    VERMILION,
    Picture,
    drawing,
    fit,
    named_rows,
    page,
    place_axes,
    rendered,
    text_width,
)
from emotune.reports.figures.thresholds import threshold_stability
from emotune.reports.figures.training import training_curves

__all__ = [
    "BLUE",
    "EMPTY",
    "GAP",
    "HEAT",
    "INK",
    "LIGHT_BLUE",
    "LINES",
    "LONGEST_NAME",
    "LONGEST_SIDE",
    "MARGIN",
    "MIDDLE",
    "MOST_ENTRIES",
    "MOST_PANELS",
    "PAPER",
    "POINTS",
    "QUIET",
    "RULE",
    "TITLE",
    "TITLE_LINE",
    "VERMILION",
    "CostPanel",
    "CostPoint",
    "LabelCurve",
    "Picture",
    "confusion_matrix",
    "drawing",
    "fit",
    "label_comparison",
    "label_f1",
    "named_rows",
    "page",
    "place_axes",
    "precision_recall",
    "precision_recall_panel",
    "quality_cost",
    "reliability_diagram",
    "rendered",
    "text_width",
    "threshold_stability",
    "training_curves",
]
