"""Where answers differ from MLflow's on purpose. `python -m` of this module prints the table of the README."""

import re
from typing import Literal, NamedTuple

Outcome = Literal["answered, refused", "refused, answered", "other prediction", "other code", "failed, refused"]
"""What MLflow does, and what is done here."""


class Difference(NamedTuple):
    """A deliberate difference.

    Attributes:
        what: What was sent.
        mlflow: What MLflow does with it.
        here: What is done here, and why.
        outcome: Both, in short.
        bodies: Pattern in the names of the bodies.
        models: Pattern of the models' names.
    """

    what: str
    mlflow: str
    here: str
    outcome: Outcome
    bodies: str
    models: str = ".*"

    def covers(self, model: str, body: str, outcome: str) -> bool:
        return bool(
            outcome == self.outcome and re.fullmatch(self.models, model) and re.search(self.bodies, body, re.DOTALL)
        )


UNNAMED = "tensor|whole tensor|unsigned|unsigned classifier|unnamed"

DIFFERENCES = (
    Difference(
        "categories of pandas columns",
        "LightGBM refuses them, since MLflow hands over text",
        "taken by their own values, as in all formats",
        "refused, answered",
        "",
        "categories",
    ),
    Difference(
        "an optional column that is absent",
        "LightGBM refuses fewer columns",
        "missing, which is what optional means",
        "refused, answered",
        "",
        "optional",
    ),
    Difference(
        "a whole number beyond its type, or beyond 2^53",
        "takes another number for it, or rounds it",
        "refused, as in all formats",
        "answered, refused",
        r"^[ab] is|^a,b,c,d",
        "integers",
    ),
    Difference(
        "anything but true, false, 1 and 0 in a column of booleans",
        "true, and null often false",
        "refused, as in all formats",
        "answered, refused",
        "^c is",
        "integers",
    ),
    Difference(
        "null or NaN in a column of a feature plan that must have a value",
        "missing",
        "refused, as in all formats",
        "answered, refused",
        "null|NaN",
        "planned",
    ),
    Difference(
        "a list of more values than there are columns, one of them null, for a signature without names",
        "answered",
        "refused, as without null",
        "answered, refused",
        r"3, null\]",
        "unnamed",
    ),
    Difference(
        "true or false among the numbers of a column of CSV",
        "refuses it",
        "1 and 0, as in all formats",
        "refused, answered",
        "1,2,true\n2",
        "doubles",
    ),
    Difference(
        "columns in another order, for a model whose signature names none",
        "takes them by place, whatever their names",
        "by name if the body names all of the model's features; else by place",
        "other prediction",
        r'"c", "a", "b"|\{"c": 0.5|\nc,a,b|^c,a,b|other order',
        UNNAMED,
    ),
    Difference(
        "objects or columns of one name in a body for a signature of columns without names",
        "refuses what it converts elsewhere: whole numbers, text and null",
        "taken, by place",
        "refused, answered",
        r'^\{"(instances|inputs)": \[\{|"b", "b"|"x", "x"',
        "unnamed",
    ),
    Difference(
        "a column of nothing but null, for a model without a signature",
        "LightGBM refuses it",
        "missing, as null among numbers is",
        "refused, answered",
        "null",
        "unsigned.*",
    ),
    Difference(
        "text in nested lists, for a classifier or regressor without a signature",
        "refuses it, and converts it for a booster",
        "converted",
        "refused, answered",
        r'\[\["1.5"',
        "unsigned classifier",
    ),
    Difference(
        "whole numbers or booleans in a Parquet column of the type double",
        "refuses them, unless all are 0 and 1",
        "taken, as in JSON and CSV",
        "refused, answered",
        "^(int64|bool)$",
    ),
    Difference(
        "columns that are ignored: of another length, or with invalid text",
        "refuses the body",
        "ignored",
        "refused, answered",
        r'ud800|"x": 4|"c": \[1\]\}|"b": 2\}\]\}|"c": (1|null)\}\}',
        "doubles|single",
    ),
    Difference(
        "`data` of `dataframe_split` that is no list of lists",
        "takes what pandas makes a frame of",
        "refused: it is not the split layout",
        "answered, refused",
        r'"data": (\{|\[\{)',
    ),
    Difference(
        "an `index` of more values than there are rows",
        "repeats the only row",
        "refused",
        "answered, refused",
        r'"index": \[1, 2\]',
    ),
    Difference(
        "an empty list in the place of a number",
        "a missing value",
        "refused",
        "answered, refused",
        r'"a": \[\],|\[\[\]\]',
    ),
    Difference(
        "a line of CSV with more or fewer cells than the header",
        "fills it up, or takes the first cells for an index",
        "refused",
        "answered, refused",
        r"^a,b,c\n(1,2|1,2,3,4|0,1,2,3\n1,4,5,6)\n$",
    ),
    Difference(
        "JSON nested too deeply, or a number of thousands of digits",
        "500",
        "400: it is the body's fault",
        "failed, refused",
        "100,000|5,000 digits",
    ),
    Difference(
        "a body with several faults, or with lists in the place of values",
        "`BAD_REQUEST` or `INVALID_PARAMETER_VALUE`, by what it meets first",
        "the other of the two",
        "other code",
        r'"x": \{"y"|\[\{\}|\["x"\]|\[null\]|"x": 4|\[\[?\[1\]|\[0.5\]|\[0.5, \[1\]\]|\{"d": 1\}|no rows',
        f"{UNNAMED}|integers|categories",
    ),
)  # fmt: skip

ELSEWHERE = (
    ("no Content-Type", "500", "415"),
    ("an error", "a message with the caller's values, and often a stack trace", "a message that names the fields"),
    ("415", "text", "the JSON of all errors"),
    ("a number outside the physical range of a feature plan", "answered", "400: the model's owner calls it impossible"),
    ("null in an optional column of whole numbers or booleans", "refused, or false", "missing"),
    (
        "`params`",
        "checked if the signature declares any, and ignored",
        "ignored but for `pred_contrib` and `pred_leaf`",
    ),
    ("`messages`, `prompt` and `input` in JSON", "a request to a language model", "ignored, as all other fields"),
    ("numbers in CSV", "read by pandas, which may miss the nearest float64 by one", "the nearest float64"),
)
"""Differences that the bodies do not show, or that other tests hold."""


def table() -> str:
    """The differences as a table in Markdown."""
    rows = [*ELSEWHERE, *((difference.what, difference.mlflow, difference.here) for difference in DIFFERENCES)]
    return "\n".join(["| sent | MLflow | here |", "| --- | --- | --- |", *(f"| {' | '.join(row)} |" for row in rows)])


if __name__ == "__main__":
    print(table())
