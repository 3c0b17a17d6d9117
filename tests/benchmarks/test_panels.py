"""The picture of the dashboard, drawn from made-up answers of Prometheus."""

import json
from typing import Any

import numpy as np
import pytest

from app.ops.dashboard import dashboard
from benchmarks.drawing import draw, shown

TIMES = np.arange(1000.0, 1100.0, 2)


def series(level: float = 1.0, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "values": [[time, str(level + 0.1 * np.sin(time))] for time in TIMES]}


def answer(expression: str) -> list[dict[str, Any]]:
    if "by (le)" in expression and "quantile" not in expression:
        return [series(level, le=bound) for level, bound in ((1, "0.1"), (5, "1.0"), (9, "+Inf"))]
    if "drift_" in expression:
        return [series(level, feature=name) for name, level in (("MedInc", 0.3), ("AveRooms", 0.01))]
    if "errors_total" in expression and "error_type" in expression:
        return [series(level, error_type=f"error_{level}") for level in range(30)]
    return [] if "gpu" in expression else [series()]


def test_each_kind_of_panel_is_drawn_and_rows_without_data_are_not() -> None:
    document = json.loads(dashboard(""))
    document["panels"] = [panel for panel in document["panels"] if panel["title"] in (
        "Overview", "Health", "Errors by type", "Latency", "Where the time goes", "Latency, all requests",
        "Drift (it is not error: see below for that)", "Features, the most shifted first", "PSI by feature", "GPU",
        "Use",
    )]  # fmt: skip
    figure = draw(document, answer, 1000, 1100)
    texts = [text.get_text() for text in figure.texts] + [
        text.get_text() for axes in figure.axes for text in axes.texts
    ]
    expected = {panel["title"] for panel in document["panels"]} - {"GPU", "Use"}
    assert expected <= set(texts)
    assert "GPU" not in texts
    assert texts.index("MedInc") < texts.index("AveRooms")  # the most shifted first
    legends = [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()]
    assert [text for text in legends if text.startswith("and ")]
    assert "p99" in legends


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "s", "12.3 ms"), (2.5, "s", "2.5 s"), (2e-5, "s", "20 µs"), (0, "s", "0 s"),
        (0.0312, "percentunit", "3.12 %"), (2**28, "bytes", "256 MiB"), (12_345, "rowsps", "12.3k rows/s"),
        (3, "none", "3"), (float("nan"), "s", "no data"),
    ],
)  # fmt: skip
def test_values_are_written_in_their_units(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text
