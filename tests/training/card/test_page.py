"""The page of a model card, and the directory that it is written to."""

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from app.training.card import page as card_pages
from app.training.card.contents import Card, Data, Histograms, Importance, card_json
from app.training.card.page import card_page, write_card
from tests.training.card.examples import FULL, HISTOGRAM, MINIMAL, UGLY, error_map, pixels


def tables(page: str) -> list[list[str]]:
    """Tables of a page, each as a list of lines."""
    return [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]


def cells(line: str) -> list[str]:
    """Cells of a table's line, divided by bars that are not escaped."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def spellings(value: Any) -> set[str]:
    """Texts that a page may show for a figure: in full, to four digits, as a share."""
    if isinstance(value, str):
        return {value}
    shares = {f"{100 * value:.1f} %", f"{100 * value:.2f} %", f"{100 * value:g} %"}
    return {f"{value:,}", str(value), f"{value:.4g}"} | (shares if value <= 1 else set())


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [] if value is None else [value]


def test_the_page_has_every_figure_but_histograms_and_minor_features() -> None:
    page = card_page(FULL)
    parts = msgspec.to_builtins(FULL)
    parts["importance"] = parts["importance"][:20]
    del parts["histograms"]
    assert parts.pop("created") == "2026-05-04T03:02:01Z"
    assert "2026-05-04T03:02:01+00:00" in page
    assert len(leaves(parts)) > 140
    for leaf in leaves(parts):
        pattern = "|".join(re.escape(text) for text in spellings(leaf))
        assert re.search(rf"(?<![\w.,])({pattern})(?![\w])(?!\.\d)", page), f"{leaf} is not on the page"
    ranges = next(table for table in tables(page) if "Least" in table[0])
    assert [cells(line) for line in ranges[2:]] == [
        ["wind", "0.125", "3.5", "6.2 %"],
        ["dew", "none", "none", "100.0 %"],
        ["the prediction", "0.375", "11.62", "0.0 %"],
    ]
    assert "feature_20" not in page
    assert "the first 20 are in `card.json`" in page
    assert "not recorded" not in page


def test_the_page_has_the_figures_in_their_places() -> None:
    lines = card_page(FULL).splitlines()
    for line in (
        "| Fit | 0.3011 | 0.2012 | 0.9013 |",
        "| Test | 0.4131 | 0.2932 | 0.8433 |",
        "| trees | 331 |",
        "| 1 | 3,111 | 0.611 | 0.633 | 0.722 |",
        "| 2 | 3,222 | 0.644 | 0.655 | not measured |",
        "| feature_0 | 8.00 % | 2,400 |",
        "| Target | rain in mm a day |",
    ):
        assert line in lines


def test_coverage_of_each_tenth_is_told_in_either_order() -> None:
    table = next(table for table in tables(card_page(FULL)) if "| By |" in table[0])
    interval = FULL.intervals[1]
    for line, order, tenths in (
        (table[4], "difficulty", interval.by_difficulty),
        (table[5], "prediction", interval.by_prediction),
    ):
        assert cells(line) == ["90 %", order, *(f"{100 * tenth:.1f} %" for tenth in tenths)]


def test_the_worst_decile_is_the_one_of_least_coverage() -> None:
    assert "| 90 % | 232 | 90.3 % | 2.25 | 89.1 % (decile 6) | 89.2 % (decile 10) |" in card_page(FULL).splitlines()


def test_the_page_says_that_a_random_split_rewards_interpolation() -> None:
    for card in (MINIMAL, FULL):
        assert "Such a test rewards interpolation" in card_page(card)


def test_the_page_says_what_the_validation_rows_were_for() -> None:
    chose = "the validation rows chose the number of trees"
    assert f"{chose} and calibrated the intervals.\n" in card_page(FULL)
    assert f"{chose}.\n" in card_page(msgspec.structs.replace(FULL, intervals=()))


def test_the_page_says_what_leave_area_out_copies_are() -> None:
    assert (
        "leave-area-out copies are the fit rows added once more at a small weight, with their reference features "
        "computed as if their own area had no stored rows."
    ) in card_page(FULL)


ABSENT = (
    "The error on the parts of the split was not measured.",
    "How far the error varies from one part of the data to another was not measured.",
    "The error in unseen areas was not measured.",
    "There is no map of the error.",
    "The model has no prediction intervals.",
    "no such distance was set",
    "The importance of features was not recorded.",
    "The cost of a prediction was not measured.",
)


def test_the_page_says_what_is_absent() -> None:
    empty, full = card_page(MINIMAL), card_page(FULL, error_map())
    for sentence in ABSENT:
        assert sentence in empty
        assert sentence not in full
    assert "![" not in empty
    assert "in the unit of the target" not in full


def test_an_absent_measure_is_shown_as_not_measured() -> None:
    page = card_page(msgspec.structs.replace(MINIMAL, metrics={"test_rmse": 0.75, "seconds": 8.5}))
    assert "| Test | 0.75 | not measured | not measured |" in page
    assert "| Fit | not measured | not measured | not measured |" in page
    assert "| seconds | 8.5 |" in page


def test_names_of_any_kind_leave_tables_and_headings_whole() -> None:
    card = msgspec.structs.replace(
        FULL,
        title=UGLY,
        data=Data(source=UGLY, rows=9, sha256="0", target=UGLY, unit=UGLY),
        split=msgspec.structs.replace(FULL.split, method=UGLY),
        metrics=FULL.metrics | {UGLY: 7.5},
        importance=(Importance(feature=UGLY, gain=1.0, splits=1),),
        histograms=Histograms(features={UGLY: HISTOGRAM}, prediction=HISTOGRAM),
    )
    rows = error_map(x_name=UGLY, y_name=UGLY)
    page, plain = card_page(card, rows), card_page(FULL, error_map())
    assert re.findall("^#.*", page, re.M)[1:] == re.findall("^#.*", plain, re.M)[1:]
    for table in tables(page):
        assert {len(cells(line)) for line in table} == {len(cells(table[0]))}
    escaped = r"\$\\frac\$ a\|b \| --- \| \# \`c\` \*d\* \_e\_ \<b\> \[f\](g) \\ \&amp;"
    assert page.startswith(f"# {escaped}\n\n")
    for line in (f"| Source | {escaped} |", f"| {escaped} | 7.5 |", f"| {escaped} | 100.00 % | 1 |"):
        assert line in page.splitlines()


@given(name=st.text(max_size=30))
def test_no_name_breaks_a_table(name: str) -> None:
    card = msgspec.structs.replace(MINIMAL, importance=(Importance(feature=name, gain=1.0, splits=3),))
    table = tables(card_page(card))[-2]
    assert len(table) == 3
    assert cells(table[2])[-2:] == ["100.00 %", "3"]
    assert len(cells(table[2])) == 3


def test_what_the_template_does_not_find_is_an_error() -> None:
    template = card_pages._environment().from_string("{{ card.versions.pandas }}")
    with pytest.raises(UndefinedError, match="pandas"):
        template.render(card=FULL)


@pytest.mark.parametrize("card", [MINIMAL, FULL], ids=["minimal", "full"])
def test_json_and_page_are_written_into_a_new_directory(card: Card, tmp_path: Path) -> None:
    directory = tmp_path / "new" / "directory"
    write_card(card, directory)
    assert (directory / "card.json").read_bytes() == card_json(card)
    assert (directory / "card.md").read_text(encoding="utf-8") == card_page(card)


def test_nothing_is_written_of_a_card_that_is_not_finite(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="outside_distance is not a finite number"):
        write_card(msgspec.structs.replace(FULL, outside_distance=np.inf), tmp_path / "card")
    with pytest.raises(ValueError, match="no row is finite"):
        write_card(MINIMAL, tmp_path / "card", error_map(absolute_error=np.full(500, np.nan)))
    assert not (tmp_path / "card").exists()


def test_pictures_are_written_beside_the_page_that_shows_them(tmp_path: Path) -> None:
    write_card(FULL, tmp_path, error_map(degrees=True))
    assert {path.name for path in tmp_path.iterdir()} == {"card.json", "card.md", "importance.png", "error_map.png"}
    for name in ("importance.png", "error_map.png"):
        image = pixels((tmp_path / name).read_bytes())
        assert image.shape == (900, 1200, 3)
        assert 0.02 < (image < 250).any(axis=2).mean() < 0.9
        assert f"]({name})" in (tmp_path / "card.md").read_text(encoding="utf-8")


def test_the_same_card_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_card(FULL, tmp_path / name, error_map())
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_picture_of_an_earlier_card_is_removed(tmp_path: Path) -> None:
    write_card(FULL, tmp_path, error_map())
    write_card(MINIMAL, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"card.json", "card.md"}
