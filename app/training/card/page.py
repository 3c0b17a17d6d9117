"""Writes a model card: the page in Markdown, with its JSON and its pictures beside it."""

import re
from datetime import UTC
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from app.training.calibrate import DECILES
from app.training.card.contents import SHOWN_FEATURES, Card, ErrorMap, card_json, in_unit, number, one_line
from app.training.card.pictures import error_map_picture, importance_picture, png

CARD_FILE = "card.json"
PAGE_FILE = "card.md"
IMPORTANCE_FILE = "importance.png"
ERROR_MAP_FILE = "error_map.png"


def write_card(card: Card, directory: Path, error_map: ErrorMap | None = None) -> None:
    """Write card.json, card.md, importance.png if the card has an importance, and error_map.png if there is a map.

    A picture of an earlier card that this card does not have is removed.

    Args:
        card: Card to write.
        directory: Directory for the files; created if it does not exist.
        error_map: Test rows and their errors, if two features are coordinates.

    Raises:
        ValueError: A number of the card, or every row of the map, is not finite; the message names it.
    """
    content = card_json(card)
    pictures = {
        IMPORTANCE_FILE: importance_picture(card.importance) if card.importance else None,
        ERROR_MAP_FILE: None if error_map is None else error_map_picture(error_map, card.data.unit),
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CARD_FILE).write_bytes(content)
    (directory / PAGE_FILE).write_text(card_page(card, error_map), encoding="utf-8")
    for name, figure in pictures.items():
        if figure is None:
            (directory / name).unlink(missing_ok=True)
        else:
            (directory / name).write_bytes(png(figure))


def card_page(card: Card, error_map: ErrorMap | None = None) -> str:
    """The card as GitHub's Markdown, for a person who decides whether to use the model.

    The page leaves out histograms and all but the first twenty features by importance: they are in card.json.

    Args:
        card: Card to show.
        error_map: As for `write_card`; the page shows its picture.
    """
    parts = {f"{part}_{measure}" for part in ("fit", "validation", "test") for measure in ("rmse", "mae", "r2")}
    page = _environment().get_template("page.md.j2")
    return page.render(
        card=card,
        error_map=error_map,
        created=card.created.astimezone(UTC).isoformat(timespec="seconds"),
        histograms=[*card.histograms.features.items(), ("the prediction", card.histograms.prediction)],
        measured=bool(parts & card.metrics.keys()),
        other_metrics=[item for item in card.metrics.items() if item[0] not in parts],
        shown_features=SHOWN_FEATURES,
        deciles=DECILES,
    )


@cache
def _environment() -> Environment:
    """Environment of the template: every printed value is escaped for Markdown, and an undefined one is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "in_unit": in_unit,
        "level": _level,
        "number": number,
        "percent": _percent,
        "worst": _worst,
    }
    return environment


def _escaped(value: object) -> Markup:
    """A value as one line of Markdown that shows it literally; what the template marks as safe is left as it is.

    An underscore inside a word needs no backslash.
    """
    if isinstance(value, Markup):
        return value
    return Markup(re.sub(r"[\\`*|<>\[\]~$&#]|(?<!\w)_|_(?!\w)", r"\\\g<0>", one_line(str(value))))


def _worst(coverage: tuple[float, ...]) -> str:
    """The decile with the least coverage; too much coverage does no harm."""
    worst = min(range(len(coverage)), key=coverage.__getitem__)
    return f"{_percent(coverage[worst])} (decile {worst + 1})"


def _level(level: float) -> str:
    return f"{100 * level:g} %"


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"
