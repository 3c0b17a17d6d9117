"""Bodies of scoring requests in CSV and Parquet: those of all formats, but with MLflow's rules for columns."""

from contextlib import nullcontext
from typing import Any

from app.codecs.columns import csv, parquet
from app.codecs.rules import Buffer, FloatArray, check_width, match_columns
from app.errors import BadRequest, InvalidInput
from app.feature import Feature
from app.models.signature import Layout
from app.protocols.mlflow.schema import (
    Places,
    check_required,
    check_some,
    limits_in_mlflow,
    places_of,
    values_as_bad_request,
)

MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
"""Cells that pandas reads as missing (`pandas.read_csv`, na_values)."""


def decode_csv(body: Buffer, features: tuple[Feature, ...], layout: Layout, max_rows: int) -> FloatArray:
    """Decode lines of cells under a header.

    Returns:
        float64[B, F] in the features' order.

    Raises:
        ServiceError: As `app.codecs.columns.csv.decode` does; BadRequest for values that the model does not take.
    """
    if layout == "tensor":
        raise BadRequest("MLflow reads no CSV for a model whose signature is a tensor.")
    header = csv.read_header(body, features)
    check_width(len(header.names), features)
    places = places_of(_first(header.names), features, layout)
    texts = {value for feature in features for value in feature.categories or ()}
    missing = tuple(cell for cell in MISSING if cell == "" or cell not in texts)
    absent = {feature.name for place, feature in zip(places, features, strict=True) if place is None}
    try:
        rows = csv.read_lines(body, header, features, places, max_rows, limits_in_mlflow, missing)
    except InvalidInput as error:
        if {fault.field for fault in error.errors} <= absent:  # only for the values that are not there
            check_required(places, features)
        raise BadRequest(error.detail, error.errors) from None
    check_required(places, features)
    check_some(len(rows))
    return rows


def decode_parquet(body: Buffer, features: tuple[Feature, ...], layout: Layout, max_rows: int) -> FloatArray:
    """Decode a file.

    Returns:
        float64[B, F] in the features' order.

    Raises:
        ServiceError: As `app.codecs.columns.parquet.decode` does.
    """

    def match(schema: Any, features: tuple[Feature, ...]) -> Places:
        names, kinds, kept = schema.names, schema.types, _without_index(schema)
        places = places_of([names[place] for place in kept], features, layout)
        check_required(places, features)
        found = [(kept[place], feature) for place, feature in zip(places, features, strict=True) if place is not None]
        match_columns(
            [feature.name for _, feature in found],
            tuple(feature for _, feature in found),
            [kinds[place] for place, _ in found],
        )
        return [None if place is None else kept[place] for place in places]

    with values_as_bad_request() if layout == "unsigned" else nullcontext():
        rows = parquet.decode(body, features, max_rows, match, limits_in_mlflow)
    check_some(len(rows))
    return rows


def _without_index(schema: Any) -> list[int]:
    """Positions of the columns of a file that are not the index of the pandas frame that was written."""
    metadata: Any = schema.pandas_metadata
    index = metadata.get("index_columns") if isinstance(metadata, dict) else None
    names = {name for name in index if isinstance(name, str)} if isinstance(index, list) else set[str]()
    return [place for place, name in enumerate(schema.names) if name not in names]


def _first(names: list[str]) -> list[str]:
    """Names of columns, of which a repeated one is the first column's, as in pandas."""
    seen: set[str] = set()
    return ["" if name in seen or seen.add(name) else name for name in names]
