"""Pictures of a model card, drawn from any rows and names."""

import numpy as np
import pytest

from app.training.card.contents import Importance
from app.training.card.pictures import error_map_picture, importance_picture, png
from tests.training.card.examples import FULL, UGLY, error_map, pixels


def test_the_bars_are_the_gain_of_the_first_twenty_features() -> None:
    axes = importance_picture(FULL.importance).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [100 * item.gain for item in FULL.importance[:20]]
    assert [label.get_text() for label in axes.get_yticklabels()] == [item.feature for item in FULL.importance[:20]]
    assert axes.yaxis_inverted()


def test_the_bars_have_a_scale_and_are_labelled_by_their_size() -> None:
    picture = importance_picture(FULL.importance)
    png(picture)
    axes = picture.axes[0]
    assert [label.get_text() for label in axes.texts] == [f"{100 * item.gain:.1f} %" for item in FULL.importance[:20]]
    assert {label.get_text()[-2:] for label in axes.get_xticklabels()} == {" %"}
    assert axes.get_xlabel() == "Share of the gain of all splits"


def test_a_forest_without_splits_has_a_picture() -> None:
    picture = importance_picture([Importance(feature="a", gain=0.0, splits=0)])
    assert pixels(png(picture)).shape == (900, 1200, 3)


def test_names_of_any_kind_can_be_drawn() -> None:
    bars = importance_picture([Importance(feature=UGLY, gain=1.0, splits=1)])
    chart = error_map_picture(error_map(x_name=UGLY, y_name=UGLY), UGLY)
    assert pixels(png(bars)).shape == pixels(png(chart)).shape == (900, 1200, 3)


def test_each_cell_of_the_map_is_the_mean_error_of_its_rows() -> None:
    x, y = np.repeat([0.0, 10.0, 10.0], 4), np.repeat([0.0, 10.0, 0.0], 4)
    error = np.array([1, 2, 3, 6, 10, 10, 10, 10, 0, 0, 1, 1], dtype=np.float64)
    figure = error_map_picture(error_map(x=x, y=y, absolute_error=error), "mm")
    (hexagons,) = figure.axes[0].collections
    assert sorted(np.asarray(hexagons.get_array()).tolist()) == [0.5, 3.0, 10.0]


def test_the_colour_bar_says_where_colours_end() -> None:
    outlier = error_map(absolute_error=np.concatenate((np.linspace(1, 2, 499), [90.0])))
    figure = error_map_picture(outlier, "mm")
    (hexagons,) = figure.axes[0].collections
    low, top = hexagons.get_clim()
    assert (low, top) == (0, np.quantile(np.asarray(hexagons.get_array()), 0.95))
    assert figure.axes[1].get_ylabel() == (
        f"Mean absolute error in mm\none colour above {top:.4g}, the 95th percentile of the cells"
    )
    even = error_map_picture(error_map(absolute_error=np.full(500, 3.0)), "")
    assert even.axes[1].get_ylabel() == "Mean absolute error"


def test_only_a_map_in_degrees_is_scaled_by_latitude() -> None:
    assert error_map_picture(error_map(), "").axes[0].get_aspect() == "auto"
    aspect = error_map_picture(error_map(degrees=True), "").axes[0].get_aspect()
    assert aspect == pytest.approx(1 / np.cos(np.radians(37)), rel=0.01)


def test_a_map_in_degrees_has_a_scale_in_kilometres() -> None:
    x, y = np.repeat([-124.0, -114.0], 2), np.tile([32.0, 42.0], 2)
    figure = error_map_picture(error_map(x=x, y=y, absolute_error=np.ones(4), degrees=True), "")
    png(figure)
    axes = figure.axes[0]
    (scale,) = axes.lines
    (label,) = [text.get_text() for text in axes.texts]
    (left, right), (bottom, top) = np.asarray(scale.get_xdata()), np.asarray(scale.get_ydata())
    assert label == "200 km"
    assert (right - left) * 111.2 * np.cos(np.radians(37)) == pytest.approx(200)
    assert bottom == top
    ticks = {text.get_text() for text in (*axes.get_xticklabels(), *axes.get_yticklabels())}
    assert {"120° W", "36° N"} <= ticks
    assert not error_map_picture(error_map(), "").axes[0].lines


@pytest.mark.parametrize("degrees", [False, True])
@pytest.mark.parametrize(
    ("x", "y"), [([1.0], [2.0]), ([3.0, 3.0], [1.0, 9.0]), ([1.0, 9.0], [90.0, 90.0]), ([0.0, 1e-3], [0.0, 80.0])]
)
def test_few_rows_and_rows_in_a_line_have_a_map(x: list[float], y: list[float], degrees: bool) -> None:
    rows = error_map(x=np.array(x), y=np.array(y), absolute_error=np.zeros(len(x)), degrees=degrees)
    assert pixels(png(error_map_picture(rows, ""))).shape == (900, 1200, 3)


def test_rows_that_are_not_finite_are_not_drawn() -> None:
    holes = error_map(x=np.array([1.0, np.nan, 3.0]), y=np.array([1.0, 2.0, np.inf]), absolute_error=np.ones(3))
    (hexagons,) = error_map_picture(holes, "").axes[0].collections
    assert np.asarray(hexagons.get_array()).tolist() == [1.0]
    with pytest.raises(ValueError, match="no row is finite"):
        error_map_picture(error_map(absolute_error=np.full(500, np.nan)), "")
