"""Query parameters of the prediction routes."""

import re
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar, get_args
from urllib.parse import parse_qs

from app.codecs.rules import MAX_ERRORS, printable
from app.config.fields import Output
from app.errors import FieldError, InvalidInput, NotExplainable
from app.models.predictions.interval import requested_level
from app.models.served import ServedModel
from app.serving.needs import Needs
from kernels.explainer import Space

T = TypeVar("T")

INTERVAL, OUTPUT, EXPLAIN, TOP, SPACE, LEAVES = "interval", "output", "explain", "top", "space", "leaves"

Addition = Literal["label", "probabilities", "raw_score"]
"""Field of an answer beside the prediction."""

ADDITIONS: dict[Output, tuple[Addition, ...]] = {
    "auto": ("label", "probabilities"),
    "labels": ("label",),
    "probabilities": ("probabilities",),
    "raw": ("raw_score",),
}
"""Additions of each output. Those of auto are for answers in JSON alone, of a model that has labels."""

FLAGS = {"true": True, "false": False}

SPACES: dict[str, Space] = {"raw": "raw", "model": "model"}

COUNT = re.compile(r"[1-9][0-9]{0,8}")

NOT_VALID = "The query is not valid."

ONCE = "must be given once"


class Asked(NamedTuple):
    """What a request asks for beside the predictions.

    Attributes:
        level: Level of the intervals; None for an answer without intervals.
        additions: Fields of the answer.
        space: Features by which the predictions are explained; None for an answer without explanations.
        top: Most features of an explanation, the others being summed up; None for all of them.
        leaves: Whether the answer has the leaf that each row reaches in each tree.
    """

    level: float | None
    additions: tuple[Addition, ...]
    space: Space | None = None
    top: int | None = None
    leaves: bool = False

    @property
    def needs(self) -> Needs:
        """What is to be computed. An explanation tells the raw score too."""
        return Needs("raw_score" in self.additions or self.space is not None, self.space, self.leaves)


def requested(query: bytes, served: ServedModel, setting: Output, *, table: bool, explain: bool = False) -> Asked:
    """What a request asks for beside the predictions.

    Args:
        query: Query string of the request.
        served: Model that answers.
        setting: MODEL_OUTPUT, the output of requests that name none. A model that cannot give it answers as with auto.
        table: Whether the answer is a table, which by default has no intervals and no additions.
        explain: Whether a request that does not say so is explained.

    Raises:
        InvalidInput: The model has no such level or output, a value is none of those that a parameter takes, or there
            is another parameter.
        NotExplainable: The request asks for an explanation, and the model has none.
    """
    if not query and not explain and served.labels is None and setting == "auto":  # most requests
        return Asked(None if table else requested_level(served.artifact.intervals, None), ())
    given = _Values(query, INTERVAL, OUTPUT, EXPLAIN, SPACE, LEAVES, *(() if table else (TOP,)))
    level = given.level(served, table=table)
    output = given.output(served, setting)
    space = given.space()
    most = most_features(served)
    asked = given.flag(EXPLAIN, explain) if table else given.flag_or_count(EXPLAIN, explain, most)
    top = given.count(TOP, most)
    leaves = given.flag(LEAVES, False)
    given.check()
    if asked is False and top is None:
        return Asked(level, _additions(output, served, table), leaves=leaves)
    if served.engine.explainable is not None:
        raise NotExplainable(served.engine.explainable)
    top = top if top is not None or asked is True else int(asked)
    return Asked(level, _additions(output, served, table), space, top, leaves)


def requested_interval(query: bytes, served: ServedModel) -> float | None:
    """The level of the intervals that a request asks for, whose query may have no other parameter.

    Raises:
        InvalidInput: The model has no such level, or there is another parameter.
    """
    given = _Values(query, INTERVAL)
    level = given.level(served, table=False)
    given.check()
    return level


def most_features(served: ServedModel) -> int:
    """Greatest number that a request can give of the features of an explanation, in whatever space."""
    return max(len(served.feature_names), served.artifact.forest.n_features)


def _additions(output: Output, served: ServedModel, table: bool) -> tuple[Addition, ...]:
    return () if output == "auto" and (table or served.labels is None) else ADDITIONS[output]


class _Values:
    """Values of a query, and their faults.

    Args:
        query: The query string.
        known: Names of the parameters that the route has.
    """

    def __init__(self, query: bytes, *known: str) -> None:
        self._given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
        self._unknown = [
            FieldError(printable(name), "unknown query parameter") for name in self._given if name not in known
        ]
        self._faults: list[FieldError] = []

    def check(self) -> None:
        """Raise InvalidInput for the faults that were found. Unknown parameters are named before all others."""
        if faults := self._unknown or self._faults:
            raise InvalidInput(NOT_VALID, tuple(faults[:MAX_ERRORS]))

    def level(self, served: ServedModel, *, table: bool) -> float | None:
        """Level of the intervals; that of a table is None unless it is given."""
        levels = self._given.get(INTERVAL)
        if table and levels is None:
            return None
        try:
            return requested_level(served.artifact.intervals, levels)
        except InvalidInput as error:
            self._faults += error.errors
            return None

    def output(self, served: ServedModel, setting: Output) -> Output:
        """The output, one of those that the model can give."""
        given = self._given.get(OUTPUT)
        if given is None:
            return setting if setting in served.outputs else "auto"
        choices = ", ".join(served.outputs)
        if len(given) != 1:
            message = f"{ONCE}; the model can give {choices}"
        elif given[0] not in get_args(Output):
            message = f"must be one of {choices}"
        else:
            for output in served.outputs:
                if output == given[0]:
                    return output
            lacking = "has no class labels" if given[0] == "labels" else "predicts no probabilities of classes"
            message = f"cannot be {given[0]}: the model {lacking}, and can give {choices}"
        self._faults.append(FieldError(OUTPUT, message))
        return "auto"

    def space(self) -> Space:
        """Features of an explanation."""
        return self._one(SPACE, SPACES.get, " or ".join(SPACES), "raw")

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        return self._one(name, FLAGS.get, "true or false", default)

    def count(self, name: str, most: int) -> int | None:
        """A whole number of at most `most`; None where there is none."""
        return self._one(name, lambda text: _count(text, most), f"a whole number from 1 to {most}", None)

    def flag_or_count(self, name: str, default: bool, most: int) -> bool | int:
        """True, false, or a whole number of at most `most`."""
        expected = f"true, false, or a whole number from 1 to {most}"
        return self._one(name, lambda text: FLAGS.get(text, _count(text, most)), expected, default)

    def _one(self, name: str, read: Callable[[str], T | None], expected: str, default: T) -> T:
        """The value of a parameter that is given once at most.

        Args:
            name: Name of the parameter.
            read: Gives the value of a text; None where the text has none.
            expected: What the texts are, for the error.
            default: Value of an absent parameter.
        """
        given = self._given.get(name)
        if given is None:
            return default
        value = read(given[0]) if len(given) == 1 else None
        if value is None:
            message = f"must be {expected}" if len(given) == 1 else f"{ONCE}, and be {expected}"
            self._faults.append(FieldError(name, message))
            return default
        return value


def _count(text: str, most: int) -> int | None:
    return int(text) if COUNT.fullmatch(text) and int(text) <= most else None
