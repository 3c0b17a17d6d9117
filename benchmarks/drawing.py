"""Draws a Grafana dashboard with matplotlib: its grid, titles, units and legends, and what its expressions give."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

CELL_WIDTH, CELL_HEIGHT = 0.9, 0.4
"""Inches of a cell of the grid."""

PALETTE = ("#3b7dd8", "#e0752d", "#5aa454", "#b877d9", "#c4a000", "#2ab0b0", "#d64e4e", "#7a6f63", "#8ab8ff", "#f2a6a6")
COLOURS = {"green": "#4c9a52", "orange": "#e69138", "red": "#cc3d3d"}
TEXT, FAINT, GRID = "#24292e", "#6a737d", "#e4e7eb"
SMALL = 7.5
LEGEND_LINES = 3
"""Lines of a legend below the axes; what does not fit is counted in its last entry."""

Series = list[dict[str, Any]]
Query = Callable[[str], Series]
"""Gives the series of an expression over the time that is drawn, as `query_range` of Prometheus does."""


def shown(value: float, unit: str) -> str:
    """A value in its unit, as a person writes it."""
    if np.isnan(value):
        return "no data"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "percent":
        return f"{value:.3g} %"
    if unit == "s":
        if value == 0:
            return "0 s"
        return (
            f"{value:.3g} s"
            if abs(value) >= 1
            else f"{value * 1e3:.3g} ms"
            if abs(value) >= 1e-3
            else f"{value * 1e6:.3g} µs"
        )
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB" if abs(value) >= 2**20 else f"{value / 2**10:.3g} KiB"
    suffix = {"reqps": " req/s", "rowsps": " rows/s", "cps": "/s", "celsius": " °C"}.get(unit, "")
    return (f"{value / 1000:.3g}k" if abs(value) >= 1000 else f"{value:.3g}") + suffix


def draw(dashboard: dict[str, Any], query: Query, start: float, end: float) -> Figure:
    """The panels of a dashboard, but the rows most of whose panels have no data.

    Args:
        dashboard: Its JSON model.
        query: Evaluates an expression.
        start: Time that is drawn as 0, in seconds since 1970.
        end: End of the time that is drawn.
    """
    rows = [row for row in _rows(dashboard, query) if 2 * sum(bool(found) for _, found in row[1]) >= len(row[1])]
    heights = [
        1 + max(p["gridPos"]["y"] + p["gridPos"]["h"] - row[0]["gridPos"]["y"] - 1 for p, _ in row[1]) for row in rows
    ]
    width, height = 24 * CELL_WIDTH, sum(heights) * CELL_HEIGHT + 0.2
    figure = Figure((width, height), facecolor="white")
    top = height - 0.1
    for (heading, panels), cells in zip(rows, heights, strict=True):
        figure.text(0.12 / width, (top - 0.28) / height, heading["title"], fontsize=12, weight="bold", color=TEXT)
        for panel, found in panels:
            place = panel["gridPos"]
            left = place["x"] * CELL_WIDTH
            below = top - (place["y"] - heading["gridPos"]["y"] + place["h"]) * CELL_HEIGHT
            box = (left, below, place["w"] * CELL_WIDTH, place["h"] * CELL_HEIGHT)
            _Panel(figure, panel, found, (start, end)).draw(box)
        top -= cells * CELL_HEIGHT
    return figure


def _rows(
    dashboard: dict[str, Any], query: Query
) -> list[tuple[dict[str, Any], list[tuple[dict[str, Any], list[Any]]]]]:
    """Rows, each with its panels and what their targets give: pairs of a legend and a series."""
    rows: list[Any] = []
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            rows.append((panel, []))
        else:
            found = [(target, one) for target in panel["targets"] for one in query(target["expr"])]
            rows[-1][1].append((panel, found))
    return rows


def _legend(target: dict[str, Any], series: dict[str, Any]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda name: series["metric"].get(name[1], ""), target["legendFormat"])


def _points(series: dict[str, Any], start: float) -> tuple[np.ndarray, np.ndarray]:
    values = np.array([[time, float(value)] for time, value in series["values"]])
    return values[:, 0] - start, values[:, 1]


class _Panel:
    """One panel of a figure."""

    def __init__(self, figure: Figure, panel: dict[str, Any], found: list[Any], times: tuple[float, float]) -> None:
        self._figure = figure
        self._panel = panel
        self._found = found
        self._start, self._end = times
        self._defaults = panel["fieldConfig"]["defaults"]
        self._unit: str = self._defaults["unit"]

    def draw(self, box: tuple[float, float, float, float]) -> None:
        """Draw it into a box: left, bottom, width and height in inches."""
        left, bottom, width, height = box
        frame = self._axes((left + 0.05, bottom + 0.05, width - 0.1, height - 0.1))
        frame.set(xticks=[], yticks=[])
        for spine in frame.spines.values():
            spine.set_color(GRID)
        frame.text(0.08 / (width - 0.1), 1 - 0.2 / (height - 0.1), self._panel["title"], transform=frame.transAxes,
                   fontsize=9, weight="bold", color=TEXT, va="center")  # fmt: skip
        kind = self._panel["type"]
        if not self._found:
            frame.text(0.5, 0.45, "no data", transform=frame.transAxes, ha="center", fontsize=9, color=FAINT)
        elif kind == "stat":
            self._stat(frame)
        elif kind == "table":
            self._table(frame)
        else:
            lower = 0.85 if kind == "timeseries" else 0.4
            wide = 1.0 if kind == "status-history" else 0.75
            axes = self._axes((left + wide, bottom + lower, width - wide - 0.2, height - lower - 0.42))
            axes.tick_params(labelsize=SMALL, colors=FAINT, length=0)
            axes.tick_params(axis="x", pad=6)
            for spine in axes.spines.values():
                spine.set_visible(False)
            {"timeseries": self._lines, "heatmap": self._heatmap, "status-history": self._history}[kind](axes)
            axes.set_xlim(0, self._end - self._start)
            axes.xaxis.set_major_locator(MultipleLocator(30))
            axes.xaxis.set_major_formatter(lambda value, _: f"{int(value) // 60}:{int(value) % 60:02}")

    def _axes(self, box: tuple[float, float, float, float]) -> Axes:
        width, height = self._figure.get_size_inches()
        return self._figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))

    def _colour(self, value: float) -> str:
        steps = self._defaults["thresholds"]["steps"]
        reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
        return COLOURS[reached[-1]]

    def _stat(self, frame: Axes) -> None:
        if self._panel["options"]["textMode"] == "name":
            text, colour = ", ".join(_legend(target, series) for target, series in self._found), COLOURS["green"]
        else:
            value = _points(self._found[0][1], self._start)[1][-1]
            text, colour = shown(value, self._unit), self._colour(value)
            for mapping in self._defaults.get("mappings", ()):
                text = mapping["options"].get(f"{value:g}", {"text": text})["text"]
        frame.text(0.5, 0.4, text, transform=frame.transAxes, ha="center", va="center", fontsize=19, color=colour)

    def _lines(self, axes: Axes) -> None:
        named = [(_legend(target, series), *_points(series, self._start)) for target, series in self._found]
        named.sort(key=lambda one: -np.nanmax(np.where(np.isfinite(one[2]), one[2], -1)))
        if self._defaults["custom"]["stacking"]["mode"] == "normal":
            times = np.unique(np.concatenate([one[1] for one in named]))
            levels = [np.interp(times, one[1], np.nan_to_num(one[2]), left=0, right=0) for one in named]
            drawn: list[Any] = axes.stackplot(times, *levels, colors=PALETTE, alpha=0.75)
        else:
            drawn = [axes.plot(times, values, color=PALETTE[index % len(PALETTE)], linewidth=1.4)[0]
                     for index, (_, times, values) in enumerate(named)]  # fmt: skip
        axes.set_ylim(bottom=0, top=self._defaults.get("max", None) and self._defaults["max"] * 1.05)
        if axes.get_ylim()[1] < 1e-9 or all(np.nanmax(np.nan_to_num(one[2])) == 0 for one in named):
            axes.set_ylim(0, 1)
        axes.grid(axis="y", color=GRID, linewidth=0.6)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(lambda value, _: shown(value, self._unit))
        names = [name if len(name) <= 30 else f"{name[:29]}…" for name, _, _ in named]
        inches = axes.get_position().width * self._figure.get_size_inches()[0]
        columns = min(4, max(1, int(inches / (0.35 + 0.062 * max(map(len, names))))))
        most = columns * LEGEND_LINES
        if len(names) > most:
            names[most - 1] = f"and {len(names) - most + 1} more"
        axes.legend(
            drawn[:most], names[:most], loc="upper left", bbox_to_anchor=(-0.02, -0.14), frameon=False, fontsize=SMALL,
            ncols=columns, labelcolor=TEXT, handlelength=1, columnspacing=1.2, borderpad=0, labelspacing=0.25,
            borderaxespad=0,
        )  # fmt: skip

    def _heatmap(self, axes: Axes) -> None:
        series = sorted((one for _, one in self._found), key=lambda one: float(one["metric"]["le"]))
        times = np.unique(np.concatenate([_points(one, self._start)[0] for one in series]))
        levels = np.array([np.interp(times, *_points(one, self._start)) for one in series])
        counts = np.diff(levels, axis=0, prepend=0).clip(0)
        used = np.flatnonzero(counts.max(axis=1) > 0.01)
        low, high = used.min(), used.max() + 1
        cells = np.ma.masked_less(counts[low:high], 0.01)
        axes.pcolormesh(
            times, np.arange(high - low), cells, cmap="Oranges", norm=LogNorm(0.05, counts.max()), shading="nearest"
        )
        labels = [shown(float(one["metric"]["le"]), self._unit) for one in series[low:high]]
        step = -(-len(labels) // 9)
        axes.set_yticks(np.arange(0, len(labels), step), labels[::step])

    def _history(self, axes: Axes) -> None:
        series = sorted(
            ((_legend(target, one), one) for target, one in self._found), key=lambda one: one[0], reverse=True
        )
        for row, (_, one) in enumerate(series):
            times, values = _points(one, self._start)
            axes.bar(times, 0.85, width=np.median(np.diff(times)) if len(times) > 1 else 1, bottom=row - 0.425,
                     color=[self._colour(value) for value in values], linewidth=0)  # fmt: skip
        axes.set_yticks(range(len(series)), [name for name, _ in series])

    def _table(self, frame: Axes) -> None:
        titles = list(dict.fromkeys(target["legendFormat"] for target, _ in self._found))
        cells: dict[str, dict[str, float]] = {}
        for target, series in self._found:
            name = ", ".join(series["metric"].values())
            cells.setdefault(name, {})[target["legendFormat"]] = _points(series, self._start)[1][-1]
        height = frame.get_position().height * self._figure.get_size_inches()[1]
        places = np.linspace(0.45, 0.97, len(titles)) if len(titles) > 1 else [0.97]
        for place, title in zip(places, titles, strict=True):
            frame.text(
                place, 1 - 0.45 / height, title, transform=frame.transAxes, ha="right", fontsize=SMALL, color=FAINT
            )
        order = sorted(cells, key=lambda name: -cells[name].get(titles[0], -1.0))
        for row, name in enumerate(order[: int((height - 0.6) / 0.21)]):
            level = 1 - (0.68 + 0.21 * row) / height
            frame.text(0.03, level, name, transform=frame.transAxes, fontsize=8, color=TEXT)
            for place, title in zip(places, titles, strict=True):
                if title in cells[name]:
                    value = cells[name][title]
                    colour = self._colour(value) if title == titles[0] else TEXT
                    frame.text(
                        place, level, f"{value:.3f}", transform=frame.transAxes, ha="right", fontsize=8, color=colour
                    )
