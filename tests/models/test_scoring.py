"""Values in JSON and CSV as MLflow's own scoring app takes them: the same status, and the same bits of the prediction.

What differs on purpose is in `DIFFERENCES`, and in the README of the codecs.
"""

import asyncio
import json
from itertools import product
from pathlib import Path

import httpx
import lightgbm as lgb
import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature, infer_signature
from mlflow.pyfunc import scoring_server
from mlflow.types import ColSpec, Schema, TensorSpec

from app.codecs.columns import csv
from app.codecs.json.row import JsonCodec
from app.codecs.rules import FloatArray
from app.errors import InvalidInput, MalformedBody
from app.feature import Category, Feature
from app.models.artifact import read_artifact
from tests.models.support import save_booster

LEVELS = [
    -1e300, -(2.0**63), -(2.0**53), -(2.0**31) - 1, -(2.0**31), -1.5, -1.0, 0.0, 0.1, float(np.float32(0.1)), 0.5, 1.0,
    1.5, 2.0, 2.5, 3.0, 16777216.0, 16777217.0, 2.0**31 - 1, 2.0**31, 2.0**53, 2.0**53 + 2, 2.0**63,
    3.4028234663852886e38, 1e39, 1e300, np.nan,
]  # fmt: skip
"""Training values of the feature `a`, which the booster tells apart."""

INTEGERS, NUMBERS = ("integer", "long", "int32", "int64"), ("double", "float", "float64", "float32")
BOOLEANS, TENSORS = ("boolean", "bool"), ("float64", "float32", "int64", "int32", "bool")
OPTIONAL = ("optional double", "optional integer", "optional boolean")
TYPES = (*NUMBERS, *INTEGERS, *BOOLEANS, *OPTIONAL)
"""Types of the column `a` of a signature. Tensors are asked for in JSON alone: MLflow reads no tensor from CSV."""

ABSENT = "(absent)"
FRACTIONS = ("2.5", "-1.5", "0.1")
INFINITE = ("Infinity", "1e400")
BEYOND_INT32 = ("2147483648", "-2147483649", "9007199254740992", "-9007199254740992")
BEYOND_LONG = ("9007199254740993", "9223372036854775807", "9223372036854775808")
HUGE = ("1e39", "3.4028235e38")
TEXTS = ('"1.5"', '"1"', '"true"', '"x"', '""')
VALUES = (
    "1", "1.0", "2", "1e0", "-0.0", "16777217", "2147483647", "-2147483648", "true", "false", "null", "NaN", ABSENT,
    *FRACTIONS, *INFINITE, *BEYOND_INT32, *BEYOND_LONG, *HUGE, *TEXTS,
)  # fmt: skip
"""Values of `a` as JSON. In CSV a cell holds a text without quotes, and is empty for null."""

Case = tuple[str, str, str]
"""Type, format, value."""

Answer = float | None
"""Prediction, or None where the row is refused."""


def cases(types: tuple[str, ...], formats: tuple[str, ...], values: tuple[str, ...]) -> set[Case]:
    return {(kind, name, value) for kind, name, value in product(types, formats, values) if _has(kind, name)}


def _has(kind: str, name: str) -> bool:
    return name == "json" or kind not in TENSORS


BOTH = ("json", "csv")
REFUSED = {
    "text is no number, even if it reads like one; MLflow converts it": (
        cases((*NUMBERS, "optional double"), ("json",), ('"1.5"', '"1"'))
        | cases((*INTEGERS, "optional integer"), ("json",), ('"1"',))
    ),
    "JSON has no NaN; null is missing": cases((*NUMBERS, "optional double"), ("json",), ("NaN",)),
    "infinity is no value": cases((*NUMBERS, "optional double"), BOTH, INFINITE),
    "a float beyond float32 is infinite to MLflow": cases(("float", "float32"), BOTH, ("1e39",)),
    "MLflow cuts fractions off": cases((*INTEGERS, "optional integer"), ("json",), FRACTIONS),
    "beyond int32, MLflow takes the lowest 32 bits": cases(
        ("integer", "int32", "optional integer"), ("json",), (*BEYOND_INT32, *BEYOND_LONG, *HUGE)
    ),
    "beyond 2^53, MLflow rounds": cases(("long", "int64"), ("json",), (*BEYOND_LONG, *HUGE))
    | cases(("long",), ("csv",), BEYOND_LONG[:2]),
    "any other JSON value is true to MLflow, and null is false": cases(
        (*BOOLEANS, "optional boolean"),
        ("json",),
        tuple(value for value in VALUES if value not in ("1", "1.0", "1e0", "-0.0", "true", "false", "null", ABSENT)),
    )
    | cases(BOOLEANS, ("json",), ("null",)),
}
"""Values that MLflow takes and we refuse, by the reason."""

MISSING = "a missing value of an optional column is NaN to the forest; MLflow refuses it, or takes false for it"
DIFFERENCES = {
    **REFUSED,
    MISSING: cases(OPTIONAL[1:], BOTH, ("null",))
    | cases(OPTIONAL, BOTH, (ABSENT,))
    | cases(OPTIONAL[1:], ("csv",), ("NaN", '""')),
}


@pytest.fixture(scope="module")
def booster() -> lgb.Booster:
    rows = pd.DataFrame({"a": np.repeat(LEVELS, 20), "b": 1.0})
    parameters = {
        "verbose": -1, "min_data_in_bin": 1, "min_data_in_leaf": 1, "num_leaves": 64, "learning_rate": 1.0,
    }  # fmt: skip
    booster = lgb.train(parameters, lgb.Dataset(rows, np.repeat(np.arange(len(LEVELS)), 20)), 2)
    # LightGBM's thresholds are between neighbours, but none is between 2^53 and 2^53 + 2.
    assert len(set(np.asarray(booster.predict(np.column_stack([LEVELS, np.ones(len(LEVELS))]))).tolist())) >= 26
    return booster


def body(name: str, value: str, *, ours: bool) -> str:
    """Body of one row: MLflow's, or the one that we take."""
    if name == "csv":
        cell = "" if value == "null" else value.strip('"')
        return "b\n1\n" if value == ABSENT else f"a,b\n{cell},1\n"
    if ours:
        return '{"b": 1}' if value == ABSENT else f'{{"a": {value}, "b": 1}}'
    columns, row = (["b"], "1") if value == ABSENT else (["a", "b"], f"{value}, 1")
    return f'{{"dataframe_split": {{"columns": {json.dumps(columns)}, "data": [[{row}]]}}}}'


async def ask(directory: Path, of_kind: list[Case]) -> dict[Case, Answer]:
    """MLflow's answers."""
    transport = httpx.ASGITransport(scoring_server.init(mlflow.pyfunc.load_model(str(directory))))
    answers: dict[Case, Answer] = {}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for case in of_kind:
            _, name, value = case
            headers = {"content-type": "application/json" if name == "json" else "text/csv"}
            answer = await client.post("/invocations", content=body(name, value, ours=False), headers=headers)
            assert answer.status_code in (200, 400)
            answers[case] = answer.json()["predictions"][0] if answer.status_code == 200 else None
    return answers


def read(features: tuple[Feature, ...], name: str, value: str) -> FloatArray | None:
    """The row that we read; None if it is refused."""
    given = body(name, value, ours=True).encode()
    try:
        return JsonCodec(features).decode_row(given)[0] if name == "json" else csv.decode(given, features, 1)
    except (InvalidInput, MalformedBody):
        return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", TYPES)
def test_values_are_answered_as_by_mlflows_scoring_app(kind: str, booster: lgb.Booster, tmp_path: Path) -> None:
    if kind in TENSORS:
        schema = Schema([TensorSpec(np.dtype(kind), (-1, 2))])
    else:
        column = ColSpec(kind.removeprefix("optional "), "a", required=kind not in OPTIONAL)
        schema = Schema([column, ColSpec("double", "b")])
    directory = save_booster(booster, tmp_path / "model", signature=ModelSignature(schema), input_example=None)
    artifact = read_artifact(directory)
    engine = artifact.engine()
    of_kind = sorted(cases((kind,), BOTH, VALUES))
    theirs = asyncio.run(ask(directory, of_kind))
    rows = {case: read(artifact.features, *case[1:]) for case in of_kind}
    ours = {case: None if row is None else engine.predict(row).item() for case, row in rows.items()}
    assert sum(answer is not None for answer in ours.values()) >= 6
    differ = {case for case in of_kind if ours[case] != theirs[case]}
    assert differ == {case for allowed in DIFFERENCES.values() for case in allowed if case[0] == kind}
    for case in differ:
        row = rows[case]
        assert (row is not None and np.isnan(row[0, 0])) if case in DIFFERENCES[MISSING] else row is None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "values", [["mauve", "teal", "é"], [3, 1, 7], [False, True]], ids=["text", "integer", "boolean"]
)
def test_categories_are_answered_as_by_lightgbm_where_mlflow_refuses(values: list[Category], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"a": pd.Categorical([values[code] for code in random.integers(0, len(values), 300)])})
    rows["b"] = random.normal(size=300)
    booster = lgb.train(
        {"verbose": -1, "min_data_per_group": 1}, lgb.Dataset(rows, rows.a.cat.codes % 2 + rows.b), num_boost_round=5
    )
    directory = save_booster(booster, tmp_path / "model", signature=infer_signature(rows), input_example=None)
    artifact = read_artifact(directory)
    engine, codec = artifact.engine(), JsonCodec(artifact.features)
    given = [*values, "pink" if isinstance(values[0], str) else 9, None]
    cases_of = [("category", "json", json.dumps(value)) for value in given]
    assert set(asyncio.run(ask(directory, cases_of)).values()) == {None}
    frame = pd.DataFrame({"a": pd.Categorical(given, categories=rows.a.cat.categories), "b": 1.0})
    expected = np.asarray(booster.predict(frame)).tolist()
    bodies = [body(*case[1:], ours=True).encode() for case in cases_of]
    assert [engine.predict(codec.decode_row(given)[0]).item() for given in bodies] == expected
    assert len(set(expected)) > 1
