"""Pictures of a model card: bars of the importance, and a map of the error."""

import io
import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from app.training.card.contents import SHOWN_FEATURES, Array, ErrorMap, Importance, in_unit, number, one_line

PICTURE_INCHES = (8.0, 6.0)
PICTURE_DPI = 150
"""Dots per inch; a picture has 1200 by 900 pixels."""

TITLE_POINTS, LABEL_POINTS, TEXT_POINTS = 14, 12, 10.5
"""Sizes of letters, which can be read where the picture is half as wide as the page."""

GRID = "#dddddd"

DEGREE_KM = 111.2
"""Kilometres of a degree of latitude, and of longitude at the equator."""

SCALE_SHARE = 0.3
"""Longest share of the map's width that the scale takes."""


def importance_picture(importance: Sequence[Importance]) -> Figure:
    """Bars of the most important features, the first on top.

    Args:
        importance: At least one feature, in the order to show.
    """
    shown = importance[:SHOWN_FEATURES]
    figure, axes = _picture("Importance of the features" if shown == importance else "The most important features")
    bars = axes.barh(range(len(shown)), [100 * item.gain for item in shown], color="#31688e", height=0.7)
    over_grid = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    axes.bar_label(bars, fmt="%.1f %%", padding=3, fontsize=TEXT_POINTS, bbox=over_grid)
    axes.set_yticks(range(len(shown)), [_label(item.feature) for item in shown], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    # Room for the longest bar's label. The gain can be 0 for every feature, and an axis needs a length.
    axes.set_xlim(0, 112 * max(shown[0].gain, 0.001))
    axes.xaxis.set_major_formatter("{x:g} %")
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("Share of the gain of all splits")
    return figure


def error_map_picture(error_map: ErrorMap, unit: str) -> Figure:
    """Mean absolute error in hexagons over the two coordinates.

    The colours end at the 95th percentile of the hexagons, so that a few bad ones do not hide the differences between
    the others.

    Args:
        error_map: The rows.
        unit: Unit of the error, "" if it has none.

    Raises:
        ValueError: No row is finite.
    """
    columns = np.column_stack((error_map.x, error_map.y, error_map.absolute_error))
    columns = columns[np.isfinite(columns).all(axis=1)]
    if not len(columns):
        raise ValueError("error_map: no row is finite")
    x, y, error = columns.T
    (west, east), (south, north) = _limits(x), _limits(y)
    figure, axes = _picture(f"Mean absolute error on {len(error):,} test rows")
    ratio = PICTURE_INCHES[1] / PICTURE_INCHES[0]
    if error_map.degrees:
        # A degree of longitude is shorter by the cosine of the latitude. Bounded, because near a pole no scale fits.
        aspect = 1 / max(math.cos(math.radians((south + north) / 2)), 0.1)
        axes.set_aspect(aspect)
        ratio = aspect * (north - south) / (east - west)
    cells = np.clip(np.sqrt(len(error) / ratio), 10, 45)
    grid = int(cells), max(int(cells * min(ratio, 4) / math.sqrt(3)), 2)
    hexagons = axes.hexbin(
        x,
        y,
        C=error,
        gridsize=grid,
        extent=(west, east, south, north),
        reduce_C_function=np.mean,
        mincnt=1,
        cmap="viridis_r",
        linewidths=0.2,
    )
    means = np.asarray(hexagons.get_array())
    top = float(np.quantile(means, 0.95)) or 1.0
    hexagons.set_clim(0, top)
    clipped = bool((means > top).any())
    bar = figure.colorbar(hexagons, ax=axes, extend="max" if clipped else "neither", shrink=0.9)
    label = f"Mean absolute error{in_unit(_label(unit))}"
    if clipped:
        label += f"\none colour above {number(top)}, the 95th percentile of the cells"
    bar.set_label(label, parse_math=False, fontsize=LABEL_POINTS)
    bar.ax.tick_params(labelsize=TEXT_POINTS)
    bar.outline.set_visible(False)
    axes.set_xlabel(_label(error_map.x_name), parse_math=False)
    axes.set_ylabel(_label(error_map.y_name), parse_math=False)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    if error_map.degrees:
        axes.xaxis.set_major_formatter(partial(_degrees, "EW"))
        axes.yaxis.set_major_formatter(partial(_degrees, "NS"))
        _draw_scale(axes, (west, east), (south, north))
    return figure


def _draw_scale(axes: Axes, longitudes: tuple[float, float], latitudes: tuple[float, float]) -> None:
    """Draw a line of a round number of kilometres at the lower left, as long as it is at the middle latitude."""
    (west, east), (south, north) = longitudes, latitudes
    km_per_degree = DEGREE_KM * max(math.cos(math.radians((south + north) / 2)), 0.1)
    longest = SCALE_SHARE * (east - west) * km_per_degree
    unit = 10.0 ** math.floor(math.log10(longest))
    km = max(size * unit for size in (1, 2, 5) if size * unit <= longest)
    left, bottom = west + 0.04 * (east - west), south + 0.04 * (north - south)
    axes.plot(
        [left, left + km / km_per_degree], [bottom, bottom], color="black", linewidth=3, solid_capstyle="butt", zorder=3
    )
    axes.annotate(
        f"{km:g} km", (left, bottom), (0, 5), textcoords="offset points", fontsize=TEXT_POINTS, va="bottom", zorder=3
    )


def _degrees(directions: str, value: float, _: float | None = None) -> str:
    """A longitude or latitude, such as `118° W`."""
    return f"{abs(value):g}°" + (f" {directions[int(value < 0)]}" if value else "")


def png(figure: Figure) -> bytes:
    """A picture as the content of a PNG file."""
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()


def _picture(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=PICTURE_INCHES, dpi=PICTURE_DPI, layout="compressed")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left", fontsize=TITLE_POINTS)
    axes.tick_params(labelsize=TEXT_POINTS)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_fontsize(LABEL_POINTS)
    return figure, axes


def _label(text: str, length: int = 40) -> str:
    """A name cut to a length that leaves room for the picture."""
    line = one_line(text)
    return line if len(line) <= length else line[: length - 1] + "…"


def _limits(values: Array) -> tuple[float, float]:
    """Least and greatest value with a margin, so that equal values have a range too."""
    low, high = float(values.min()), float(values.max())
    margin = 0.02 * (high - low) or 0.5
    return low - margin, high + margin
