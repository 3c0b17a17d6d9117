"""The model card as a page of Markdown, written with its JSON and its pictures beside it."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC
from pathlib import Path

import msgspec

from app.training.calibrate import DECILES
from app.training.card.contents import SHOWN_FEATURES, Card, ErrorMap, card_json, in_unit, number, one_line
from app.training.card.pictures import error_map_picture, importance_picture, png

CARD_FILE = "card.json"
PAGE_FILE = "card.md"
IMPORTANCE_FILE = "importance.png"
ERROR_MAP_FILE = "error_map.png"


def write_card(card: Card, directory: Path, error_map: ErrorMap | None = None) -> None:
    """Write card.json, card.md, importance.png where there is an importance, and error_map.png where there is a map.

    A picture that an earlier card left in the directory and that this one has not is removed.

    Args:
        card: What to write.
        directory: Is created if it does not exist.
        error_map: The test rows and their errors, where two features are coordinates.

    Raises:
        ValueError: A number of the card is not finite, or no row of the map is; the message names it.
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
    """The card as Markdown (GitHub's), for a person who decides whether to use the model.

    Only histograms are left to card.json, and what is less important than the first twenty features.

    Args:
        card: What to show.
        error_map: As for `write_card`; its picture is referred to.
    """
    data = card.data
    sections = (
        [
            f"# {_text(card.title)}",
            f"A LightGBM forest that predicts {_text(data.target + in_unit(data.unit))}. Made "
            f"{card.created.astimezone(UTC).isoformat(timespec='seconds')}. `{CARD_FILE}` beside this page has all "
            "digits of every figure.",
        ],
        ["## Data", *_data(card)],
        ["## Accuracy", *_accuracy(card)],
        ["## Where it is weaker", *_weaknesses(card, error_map)],
        ["## Prediction intervals", *_intervals(card)],
        ["## Rows that are answered with a warning", *_warnings(card)],
        ["## Importance", *_importance(card)],
        ["## Cost", *_cost(card)],
        ["## Versions", _table(("Package", "Version"), msgspec.structs.asdict(card.versions).items())],
    )
    return "\n\n".join(block for section in sections for block in section) + "\n"


def _data(card: Card) -> list[str]:
    data, split = card.data, card.split
    facts = (
        ("Source", data.source),
        ("Rows", number(data.rows)),
        ("SHA-256", data.sha256),
        ("Target", data.target + in_unit(data.unit)),
        ("Rows to fit on", number(split.fit)),
        ("Rows to validate on", number(split.validation)),
        ("Rows to test on", number(split.test)),
        ("Split", split.method),
        ("Seed of the split", str(split.seed)),
    )
    columns = (*card.histograms.features.items(), ("the prediction", card.histograms.prediction))
    ranges = [
        (
            name,
            number(item.edges[0] if item.edges else None, absent="none"),
            number(item.edges[-1] if item.edges else None, absent="none"),
            _percent(item.missing),
        )
        for name, item in columns
    ]
    return [
        _table(("", ""), facts),
        "What the fit rows hold, and what the model predicts for them:",
        _table(("", "Least", "Greatest", "Missing"), ranges),
    ]


def _accuracy(card: Card) -> list[str]:
    unit = _text(in_unit(card.data.unit)) or "in the unit of the target"
    parts = {"fit": "Fit", "validation": "Validation", "test": "Test"}
    measures = {"rmse": "RMSE", "mae": "Mean absolute error", "r2": "R²"}
    shown = {f"{part}_{measure}" for part in parts for measure in measures} & card.metrics.keys()
    if shown:
        rows = [
            (title, *(number(card.metrics.get(f"{part}_{measure}"), absent="not measured") for measure in measures))
            for part, title in parts.items()
        ]
        chosen = "chose the number of trees"
        if card.intervals:
            chosen += " and calibrated the intervals"
        blocks = [
            f"Errors are {unit}. Only the test rows tell what to expect: the model was fitted on the fit rows, and "
            f"the validation rows {chosen}.",
            _table(("Rows", *measures.values()), rows),
        ]
    else:
        blocks = ["The error on the parts of the split was not measured."]
    if others := [(name, number(value)) for name, value in card.metrics.items() if name not in shown]:
        blocks.append(_table(("Also recorded", ""), others))
    if card.folds is None:
        return [*blocks, "How far the error varies from one part of the data to another was not measured."]
    return [
        *blocks,
        "How far the error varies from one part of the data to another: each fold of the fit rows was predicted by a "
        f"forest fitted on the other folds, with RMSE {', '.join(number(value) for value in card.folds.rmse)}; mean "
        f"{number(card.folds.mean)}, standard deviation {number(card.folds.standard_deviation)}. Other data of the "
        "same kind can move the error by as much.",
    ]


def _weaknesses(card: Card, error_map: ErrorMap | None) -> list[str]:
    blocks = [
        "Rows that are split at random leave each test row among fit rows that are much like it. Such a test rewards "
        "interpolation: it tells how well the model fills gaps between rows that it has seen, and not how well it does "
        "in an area that it has seen nothing of."
    ]
    if card.unseen_areas:
        blocks += [
            "In each repetition below, whole areas (k-means clusters of places) were held out and predicted by the "
            "recipe fitted on the rest. Reference features are those computed from stored fit rows; leave-area-out "
            "copies are the fit rows added once more at a small weight, with their reference features computed as if "
            "their own area had no stored rows.",
            _table(
                ("Repetition", "Rows", "RMSE", "RMSE without reference features", "RMSE without leave-area-out copies"),
                [
                    (
                        str(area.repetition),
                        number(area.rows),
                        number(area.rmse, absent="not measured"),
                        number(area.rmse_without_references, absent="not measured"),
                        number(area.rmse_without_copies, absent="not measured"),
                    )
                    for area in card.unseen_areas
                ],
            ),
        ]
    else:
        blocks.append("The error in unseen areas was not measured.")
    if error_map is None:
        return [*blocks, "There is no map of the error."]
    names = f"{_text(error_map.x_name)} and {_text(error_map.y_name)}"
    return [
        *blocks,
        f"![Mean absolute error of the test rows over {names}]({ERROR_MAP_FILE})",
        "A cell with few rows shows the luck of these rows; cells without a test row are left blank.",
    ]


def _intervals(card: Card) -> list[str]:
    if not card.intervals:
        return ["The model has no prediction intervals."]
    unit = _text(in_unit(card.data.unit)) or "in the unit of the target"
    tenths = [
        (_level(item.level), order, *map(_percent, coverage))
        for item in card.intervals
        for order, coverage in (
            ("difficulty", item.by_difficulty),
            ("prediction", item.by_prediction),
        )
    ]
    return [
        "An interval should hold the true value of as many rows as its level says. Coverage is the share of test rows "
        f"for which it did; width is {unit}. "
        "Coverage is promised on average over rows like the test rows: not for each kind of row, and not in areas that "
        "the model has seen nothing of.",
        _table(
            ("Level", "Rows", "Coverage", "Mean width", "Worst decile by difficulty", "Worst decile by prediction"),
            [
                (
                    _level(item.level),
                    number(item.rows),
                    _percent(item.coverage),
                    number(item.mean_width),
                    _worst(item.by_difficulty),
                    _worst(item.by_prediction),
                )
                for item in card.intervals
            ],
        ),
        "Coverage of each tenth of the test rows, from the easiest to the hardest (by the error that the model "
        "expects) and from the lowest prediction to the highest:",
        _table(("Level", "By", *(str(decile + 1) for decile in range(DECILES))), tenths),
    ]


def _worst(coverage: tuple[float, ...]) -> str:
    """The decile of the least coverage; too much of it is no harm."""
    worst = min(range(len(coverage)), key=coverage.__getitem__)
    return f"{_percent(coverage[worst])} (decile {worst + 1})"


def _warnings(card: Card) -> list[str]:
    ranges = "- Those with a value below the least or above the greatest of the fit rows, under Data."
    if card.outside_distance is None:
        return [f"{ranges}\n- Those that are far from every fit row get no warning: no such distance was set."]
    return [
        f"{ranges}\n- Those farther than {number(card.outside_distance)} from the nearest stored fit row, in the "
        "distance by which the model finds its neighbours."
    ]


def _importance(card: Card) -> list[str]:
    if not card.importance:
        return ["The importance of features was not recorded."]
    shown = card.importance[:SHOWN_FEATURES]
    rest = f" Features beyond the first {SHOWN_FEATURES} are in `{CARD_FILE}`." if card.importance[len(shown) :] else ""
    return [
        "Gain is how far the splits on a feature reduced the error in fitting, as a share of all splits'. Features "
        f"that say the same share it by chance, and it tells nothing of causes.{rest}",
        f"![Share of gain of the most important features]({IMPORTANCE_FILE})",
        _table(
            ("Feature", "Share of gain", "Splits"),
            [(item.feature, _percent(item.gain, digits=2), number(item.splits)) for item in shown],
        ),
    ]


def _cost(card: Card) -> list[str]:
    if card.cost is None:
        return ["The cost of a prediction was not measured."]
    return [
        f"A row takes {number(card.cost.batch_us_per_row)} µs in a batch of {number(card.cost.batch_rows)} rows, and "
        f"{number(card.cost.single_row_us)} µs alone; measured on the machine that trained the model."
    ]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts; whatever these hold, it stays one."""
    lines = [map(_text, header), ("---",) * len(header), *(map(_text, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """A text as Markdown that shows it, on one line; an underscore inside a word is one already."""
    return re.sub(r"[\\`*|<>\[\]~$&#]|(?<!\w)_|_(?!\w)", r"\\\g<0>", one_line(text))


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _level(level: float) -> str:
    return f"{100 * level:g} %"
