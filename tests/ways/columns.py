"""Boosters trained on columns that are not plain float64, logged with a signature of the training frame."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.ways.boosters import VALUE, log, signed
from tests.ways.data import ASKED, numbers, price, train, with_categories, with_strangers
from tests.ways.way import Logged, way

TEXTS = ["flat", "house", "hut", "tower"]


def categories(values: list[Any], unseen: Any, *, ordered: bool = False) -> Logged:
    """Log a booster with a column of categories, to be asked with rows that lack one or have another."""
    frame, target = with_categories(values, ordered=ordered)
    return signed(train(frame, target), frame, with_strangers(frame, unseen), unseen=1, pyfunc=False)


@way(
    "pandas categories of text",
    VALUE,
    note="asked by the text; an unseen one is missing, and warned of (`mlflow.pyfunc` refuses these columns)",
)
def text(_: Path) -> Logged:
    return categories(TEXTS, "igloo")


@way("pandas categories of text, no signature", VALUE)
def text_without_a_signature(_: Path) -> Logged:
    frame, target = with_categories(TEXTS)
    return log(train(frame, target), with_strangers(frame, "igloo"), unseen=1)


@way("pandas categories of whole numbers", VALUE, note="asked by the number, not by its code")
def whole(_: Path) -> Logged:
    return categories([10, 20, 35, 50], 99)


@way("pandas categories of booleans", VALUE)
def boolean_categories(_: Path) -> Logged:
    frame, target = with_categories([False, True])
    asked = frame.head(ASKED).copy()
    return signed(train(frame, target), frame, asked, pyfunc=False)


@way("pandas categories with an order", VALUE, note="LightGBM compares their codes; asked by the text")
def ordered(_: Path) -> Logged:
    return categories(TEXTS, "igloo", ordered=True)


@way("`categorical_feature=[0]` on whole numbers", VALUE)
def codes(_: Path) -> Logged:
    frame = numbers()
    frame.insert(0, "kind", np.random.default_rng(22).integers(0, 5, len(frame)))
    target = price(frame.iloc[:, 1:]) + 2.0 * (frame["kind"] % 3)
    return signed(train(frame, target, categorical_feature=[0]), frame)


@way("float32 columns", VALUE, note="a value is rounded to float32, as MLflow does")
def single(_: Path) -> Logged:
    frame = numbers().astype(np.float32)
    return signed(train(frame, price(frame)), frame)


@way("integer columns", VALUE, note="2.0 is a whole number, 2.5 is refused")
def integers(_: Path) -> Logged:
    frame = numbers().assign(age=np.random.default_rng(23).integers(0, 90, 240), rooms=lambda rows: rows["age"] % 7)
    frame["rooms"] = frame["rooms"].astype(np.int32)
    return signed(train(frame, price(frame)), frame)


@way("boolean columns", VALUE, note="0 and 1 are taken for false and true")
def booleans(_: Path) -> Logged:
    frame = numbers().assign(age=lambda rows: rows["age"] > 0)
    return signed(train(frame, price(frame) + 2.0 * frame["age"]), frame)


@way("pandas' nullable types (`Int64`, `boolean`)", VALUE, note="null is a missing value where the frame had some")
def nullable(_: Path) -> Logged:
    frame = numbers()
    there = np.random.default_rng(24).random(len(frame)) < 0.8
    whole = pd.Series(np.arange(len(frame)) % 9, dtype="Int64")
    frame = frame.assign(age=whole.where(there), rooms=pd.Series(frame["rooms"] > 0, dtype="boolean"))
    target = frame["income"] * 3 + whole.astype(float) + frame["rooms"].astype(float)
    return signed(train(frame, target), frame, pyfunc=False)


@way(
    "dates as numbers, a signature of dates",
    refused="the signature's column 'built' has type 'datetime'",
    kept="the model has no input example to compare with",
)
def dates(_: Path) -> Logged:
    frame = numbers().assign(built=pd.Timestamp(date(2000, 1, 1)))
    trained = frame.assign(built=frame["built"].astype(np.int64))
    model = train(trained, price(frame))
    from mlflow.models import infer_signature

    return log(model, trained, signature=infer_signature(frame, model.predict(trained)), pyfunc=False)


WAYS = (
    text,
    text_without_a_signature,
    whole,
    boolean_categories,
    ordered,
    codes,
    single,
    integers,
    booleans,
    nullable,
    dates,
)
