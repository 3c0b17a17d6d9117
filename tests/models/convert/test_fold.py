"""Pipelines folded into the trees: the same raw scores to the last bit, also where a step rounds."""

from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from app.models.convert.edges import edge_rows
from app.models.convert.refused import ConversionRefused
from kernels.forest.model_text import read_model_text
from tests.models.convert.pipelines import PARAMETERS, fitted, folded, predict_folded, predict_steps, table, target

NUMBERS = ["income", "debt", "rooms", "single", "owner", "level"]


def check(pipeline: Any, rows: pd.DataFrame, *, missing: bool = True, **options: bool) -> Any:
    """Compare on the rows and on rows at the thresholds; returns the result of the folding."""
    result = folded(pipeline, rows, **options)
    read_model_text(result.text)
    for some in (rows, edge_rows(result.text, result.columns, result.categories, rows, missing=missing)):
        given = some.to_numpy() if options.get("as_array") else some
        np.testing.assert_array_equal(predict_folded(result, some), predict_steps(pipeline, given))
    return result


@pytest.mark.parametrize(
    "steps",
    [
        [StandardScaler()],
        [StandardScaler(with_mean=False), MinMaxScaler((-3, 1), clip=True)],
        [MaxAbsScaler(), RobustScaler(unit_variance=True)],
        [SimpleImputer(), StandardScaler()],
        [SimpleImputer(strategy="median", add_indicator=True), MinMaxScaler()],
        [StandardScaler(), SimpleImputer(strategy="constant", fill_value=-7.5)],
        [SimpleImputer(strategy="most_frequent")],
        ["passthrough", SelectKBest(f_regression, k=3)],
        [FeatureUnion([("a", StandardScaler()), ("b", SimpleImputer()), ("c", "passthrough"), ("d", "drop")])],
        [FunctionTransformer()],
    ],
    ids=lambda steps: " ".join(type(step).__name__ for step in steps),
)
def test_steps_on_numbers_fold_exactly(steps: list[Any]) -> None:
    rows = table()[NUMBERS]
    selects = isinstance(steps[-1], SelectKBest)
    if selects:
        rows = rows.fillna(0)
    result = check(fitted(*steps, rows=rows), rows, missing=not selects)
    assert result.notes == (("The pipeline refuses a missing number, and the service answers it",) if selects else ())


def test_a_scaler_of_float32_columns_rounds_as_it_does() -> None:
    rows = table()[["single", "income"]].astype(np.float32)
    pipeline = fitted(StandardScaler(), MinMaxScaler((0, 100)), rows=rows)
    check(pipeline, rows)
    # Computed in float64 the scores would be others.
    doubles = rows.astype(np.float64)
    edges = edge_rows(folded(pipeline, doubles).text, (0, 1), {}, rows, missing=False)
    assert (predict_folded(folded(pipeline, doubles), edges) != predict_steps(pipeline, edges)).any()


def test_an_array_folds_as_a_frame_does() -> None:
    rows = table()[["income", "debt", "level"]]
    pipeline = fitted(
        make_column_transformer((StandardScaler(), [2]), ("passthrough", slice(0, 1))), rows=rows.to_numpy()
    )
    result = check(pipeline, rows, as_array=True)
    assert result.columns == (0, 1, 2)


@pytest.mark.parametrize(
    "encoder",
    [
        OrdinalEncoder(),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, dtype=np.float32),
        OrdinalEncoder(categories=[["Lima", "Rome", "Bern", "Oslo"]]),
        OneHotEncoder(handle_unknown="ignore"),
        OneHotEncoder(drop="first", sparse_output=False),
        OneHotEncoder(max_categories=2, handle_unknown="infrequent_if_exist"),
        TargetEncoder(random_state=1, cv=3),
        make_pipeline(OrdinalEncoder(), StandardScaler()),
    ],
    ids=lambda encoder: str(encoder).replace(" ", "")[:60],
)
def test_encoders_fold_exactly(encoder: Any) -> None:
    rows = table()
    pipeline = fitted(make_column_transformer((encoder, ["city"]), ("passthrough", ["rooms"])), rows=rows)
    result = check(pipeline, rows, missing=False)
    assert (result.columns, set(result.categories)) == ((2, 5), {5})
    assert set(result.categories[5]) == {"Bern", "Lima", "Oslo", "Rome"}
    assert read_model_text(result.text).pandas_categories == (result.categories[5],)


def test_categories_may_be_numbers_and_booleans() -> None:
    rows = table()
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    pipeline = fitted(make_column_transformer((encoder, ["level", "rooms", "owner"])), rows=rows)
    result = check(pipeline, rows)
    assert result.categories == {6: (1.5, 2.0, 7.0), 2: tuple(range(9)), 4: (False, True)}


def test_ordinal_codes_may_be_categories_of_the_booster() -> None:
    rows = table()
    model = lgb.LGBMRegressor(**PARAMETERS, categorical_feature=[0], min_data_per_group=1)
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    check(fitted(make_column_transformer((encoder, ["city", "level"])), rows=rows, model=model), rows)


def test_every_kind_of_step_folds_together() -> None:
    rows = table()
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["income", "debt"]),
            ("again", MinMaxScaler(), ["income"]),
            ("texts", OneHotEncoder(handle_unknown="ignore"), make_column_selector(pattern="^city$")),
            ("kept", "passthrough", slice(2, 5)),
            ("gone", "drop", ["id"]),
        ],
        remainder=RobustScaler(),
        transformer_weights={"again": -2.0},
    )
    pipeline = fitted(columns, model=lgb.LGBMClassifier(**PARAMETERS))
    result = check(pipeline, rows, missing=False)
    assert result.columns == (0, 1, 2, 3, 4, 5, 6)
    assert read_model_text(result.text).feature_names == tuple(rows.columns[:7])


def test_frames_between_the_steps_fold_as_arrays_do() -> None:
    rows = table()[NUMBERS]
    scaler = StandardScaler().set_output(transform="pandas")
    check(fitted(scaler, SimpleImputer().set_output(transform="pandas"), rows=rows), rows)


def test_a_text_filled_in_before_the_encoder_is_a_category() -> None:
    rows = table()
    rows.loc[::7, "city"] = np.nan
    steps = make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), OrdinalEncoder())
    pipeline = fitted(make_column_transformer((steps, ["city"])), rows=rows)
    result = check(pipeline, rows)
    assert "none" in result.categories[5]
    assert result.notes == (
        "city: the pipeline refuses a value that is no category, and the service takes it as missing, unless "
        "MODEL_UNSEEN_CATEGORIES=refuse",
    )


def test_unseen_and_missing_ones_told_apart_are_refused_unless_allowed() -> None:
    rows = table()
    rows.loc[::7, "city"] = np.nan
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    pipeline = fitted(make_column_transformer((encoder, ["city"])), rows=rows)
    with pytest.raises(ConversionRefused, match="tells a missing value of 'city' from one that is no category"):
        folded(pipeline, rows)
    result = check(pipeline, rows, unseen_as_missing=True)
    assert "a value that is no category counts as missing" in result.notes[0]


def test_names_that_the_text_cannot_hold_are_numbered() -> None:
    rows = table()[["income", "debt"]].set_axis(["a:b", "a\tb"], axis=1)
    result = check(fitted(StandardScaler(), rows=rows), rows)
    assert read_model_text(result.text).feature_names == ("Column_0", "Column_1")


def test_a_booster_without_splits_folds() -> None:
    rows = table()[["income"]]
    pipeline = make_pipeline(StandardScaler(), lgb.LGBMRegressor(n_estimators=2, verbosity=-1)).fit(
        rows[:5], np.ones(5)
    )
    check(pipeline, rows)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    scale=st.sampled_from([1e-300, 1e-20, 1e-3, 1.0, 7.0, 1e15, 1e200]),
    shift=st.sampled_from([0.0, 1.0, -1e6, 1e150]),
    dtype=st.sampled_from([np.float64, np.float32]),
    steps=st.lists(
        st.sampled_from([StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, SimpleImputer]),
        min_size=1,
        max_size=3,
    ),
    seed=st.integers(0, 2**16),
)
def test_columns_of_any_scale_fold_exactly(scale: float, shift: float, dtype: Any, steps: Any, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(size=(120, 2)) * scale + shift
    values[random.random(values.shape) < 0.1] = np.nan
    if dtype is np.float32 and max(scale, abs(shift)) > 1e30:
        dtype = np.float64
    rows = pd.DataFrame(values.astype(dtype), columns=["a", "b"])
    with np.errstate(all="ignore"):
        pipeline = make_pipeline(*(step() for step in steps), lgb.LGBMRegressor(**PARAMETERS | {"n_estimators": 3}))
        pipeline.fit(rows, random.normal(size=120))
        check(pipeline, rows)


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (PCA(2), "step steps[0] 'pca' is a PCA, which cannot be folded into the trees: it mixes columns"),
        (QuantileTransformer(n_quantiles=5), "is a QuantileTransformer, .*: it interpolates"),
        (FunctionTransformer(np.log1p), "is a FunctionTransformer, .*: it calls a function of yours"),
        (KNNImputer(), "is a KNNImputer, .*: it compares with stored rows"),
        (SimpleImputer(missing_values=-1.0), "it replaces the value -1.0, and not missing values"),
        (make_pipeline(StandardScaler(), OrdinalEncoder()), "it encodes what an earlier step has computed"),
    ],
)
def test_other_steps_are_refused_by_name(step: Any, why: str) -> None:
    rows = table()[["income", "level", "rooms"]]
    with pytest.raises(ConversionRefused, match=why.replace("[", r"\[").replace("]", r"\]")):
        folded(fitted(step, rows=rows), rows)


class Doubler(StandardScaler):
    """Somebody's own class, which does something else."""

    def transform(self, X: Any, copy: Any = None) -> Any:
        return np.asarray(X) % 2


def test_a_class_derived_from_a_known_one_is_refused() -> None:
    rows = table()[["income"]]
    with pytest.raises(ConversionRefused, match=r"is a Doubler, .*: its code is not scikit-learn's"):
        folded(fitted(Doubler(), rows=rows), rows)


def test_one_column_as_number_and_category_is_refused() -> None:
    rows = table()
    columns = make_column_transformer((OrdinalEncoder(), ["level"]), ("passthrough", ["level"]))
    with pytest.raises(ConversionRefused, match="uses column 'level' both as a category and as a number"):
        folded(fitted(columns, rows=rows), rows)


def test_linear_trees_and_zero_as_missing_are_refused() -> None:
    rows = table()[["income", "level"]]
    linear = lgb.LGBMRegressor(**PARAMETERS, linear_tree=True)
    with pytest.raises(ConversionRefused, match="linear trees"):
        folded(fitted(StandardScaler(), rows=rows, model=linear), rows)
    zero = lgb.LGBMRegressor(**PARAMETERS, zero_as_missing=True)
    with pytest.raises(ConversionRefused, match="zero_as_missing"):
        folded(fitted(MinMaxScaler(), rows=rows, model=zero), rows)


def test_an_imputed_category_of_the_booster_is_refused() -> None:
    rows = table()[["rooms"]]
    model = lgb.LGBMRegressor(**PARAMETERS, categorical_feature=[0], min_data_per_group=1, cat_smooth=1)
    with pytest.raises(ConversionRefused, match="column 'rooms' as a category after a step that changes or fills it"):
        folded(fitted(SimpleImputer(strategy="most_frequent"), rows=rows, model=model), rows)


def test_scores_depend_on_the_columns() -> None:
    assert len(np.unique(target(table()))) > 100
