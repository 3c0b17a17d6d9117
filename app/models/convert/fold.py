"""The steps of a pipeline folded into the trees, which then test the raw columns.

Nothing is rounded anew: each node gets the test of the raw column that goes the same way for every value, and the
leaves stay. So the predictions are the pipeline's to the last bit.
"""

from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.feature import Category
from app.models.convert.node_test import (
    DEFAULT_LEFT,
    MISSING,
    NAN_IS_MISSING,
    ZERO_IS_MISSING,
    NodeTest,
    bitmap,
)
from app.models.convert.origin import Origins, trace
from app.models.convert.refused import ConversionRefused
from app.models.convert.steps_output import StepsOutput
from app.models.convert.thresholds import RawTest, raw_tests
from app.models.convert.tree_text import Nodes, TextColumn, TreeText, read_nodes, write_nodes
from app.models.convert.wrapped import Step
from kernels.forest.trees import CATEGORICAL

UNSEEN_TEXT = "a value that is no category"


class Folded(msgspec.Struct, frozen=True):
    """A booster that takes raw columns.

    Attributes:
        text: LightGBM's native text.
        columns: Indices of the raw columns that are its features, ascending.
        categories: Categories of those raw columns that are categories, by their index.
        notes: What is different from the pipeline for values that it refuses, or that it was never asked with.
    """

    text: str
    columns: tuple[int, ...]
    categories: dict[int, tuple[Category, ...]]
    notes: tuple[str, ...]


class CategoryWays(msgspec.Struct, frozen=True):
    """Outputs of the steps for each category of a raw column: float64[K, J], for a missing value and an unseen one.

    The last two are None where the steps refuse such a value.
    """

    known: NDArray[np.float64]
    missing: NDArray[np.float64] | None
    unseen: NDArray[np.float64] | None


class NewNode(msgspec.Struct, frozen=True):
    """The test that takes a node's place."""

    feature: int
    threshold: float
    decision: int
    members: NDArray[np.uint32] | None
    swapped: bool


def fold(
    text: str, steps: tuple[Step, ...], sample: pd.DataFrame, *, as_array: bool, unseen_as_missing: bool
) -> Folded:
    """Fold the steps into the booster's text.

    Args:
        text: The booster, which takes the steps' outputs.
        steps: The steps before it.
        sample: Rows of the raw columns, in the types that the pipeline is asked with; at least one.
        as_array: Whether the pipeline is asked with an array and not with a frame.
        unseen_as_missing: Whether a value that is no category may go the way of a missing one where the steps tell
            them apart.

    Raises:
        ConversionRefused: A step or the booster cannot be folded.
    """
    names = tuple(str(name) for name in sample.columns)
    origins = trace(steps, names)
    booster = TreeText(text)
    if any(int(tree.get("is_linear", "0")) for tree in booster.trees):
        raise ConversionRefused("the model has linear trees, whose leaves compute with what the steps put out")
    width = booster.n_features
    output = StepsOutput(steps, sample, as_array)
    try:
        found = output.compute({}, 1).shape[1]
    except Exception as error:
        raise ConversionRefused(
            f"the pipeline's steps refuse the first row: {type(error).__name__}: {error}"
        ) from error
    if not found == len(origins.outputs) == width:
        raise ConversionRefused(
            f"the steps put out {found} columns, of which {len(origins.outputs)} are understood, and the booster takes "
            f"{width}"
        )
    trees = [read_nodes(tree) for tree in booster.trees]
    tests = list(dict.fromkeys(test for nodes in trees for test in _tests(nodes)))
    # An array has no names to leave a column out by.
    columns = tuple(range(len(names)) if as_array else sorted({origin.column for origin in origins.outputs}))
    notes: list[str] = []
    try:
        rewritten = _numbers(tests, origins, names, sample, output) | _of_categories(
            tests, origins, names, sample, output, notes, unseen_as_missing
        )
    except ConversionRefused:
        raise
    except Exception as error:
        raise ConversionRefused(f"the pipeline's steps fail: {type(error).__name__}: {error}") from error
    numbers = [column for column in columns if column not in origins.categories]
    if any(sample.dtypes.iloc[column].kind == "f" for column in numbers) and not _takes_missing(
        numbers, sample, output
    ):
        notes.append("The pipeline refuses a missing number, and the service answers it")
    places = {column: index for index, column in enumerate(columns)}
    for tree, nodes in zip(booster.trees, trees, strict=True):
        if len(nodes.feature):
            _rewrite(nodes, [rewritten[test] for test in _tests(nodes)], places)
            write_nodes(tree, nodes)
    described = tuple(TextColumn(names[column], origins.categories.get(column)) for column in columns)
    return Folded(booster.with_columns(described).write(), columns, origins.categories, tuple(notes))


def _takes_missing(columns: list[int], sample: pd.DataFrame, output: StepsOutput) -> bool:
    """Whether the steps take missing values in the columns of floats among these."""
    missing = {
        column: pd.Series(np.full(1, np.nan, sample.dtypes.iloc[column]))
        for column in columns
        if sample.dtypes.iloc[column].kind == "f"
    }
    try:
        output.compute(missing, 1, strict=True)
    except ValueError:
        return False
    return True


def _tests(nodes: Nodes) -> list[NodeTest]:
    """The test of each node."""
    return [
        NodeTest(feature, 0.0, decision, nodes.sets[node].tobytes())
        if decision & CATEGORICAL
        else NodeTest(feature, threshold, decision)
        for node, (feature, threshold, decision) in enumerate(
            zip(nodes.feature.tolist(), nodes.threshold.tolist(), nodes.decision.tolist(), strict=True)
        )
    ]


def _numbers(
    tests: list[NodeTest], origins: Origins, names: tuple[str, ...], sample: pd.DataFrame, output: StepsOutput
) -> dict[NodeTest, NewNode]:
    """The new nodes of tests whose raw column is a number."""
    found: dict[NodeTest, NewNode] = {}
    changed: list[NodeTest] = []
    for test in tests:
        origin = origins.outputs[test.feature]
        if origin.column in origins.categories:
            continue
        if origin.way == "raw":
            members = np.frombuffer(test.members, np.uint32) if test.categorical else None
            found[test] = NewNode(origin.column, test.threshold, test.decision, members, swapped=False)
        elif test.categorical:
            raise ConversionRefused(
                f"the booster takes column {names[origin.column]!r} as a category after a step that changes or fills it"
            )
        elif test.decision & MISSING == ZERO_IS_MISSING:
            raise ConversionRefused("the booster takes zero as a missing value (zero_as_missing) after the steps")
        else:
            changed.append(test)
    if not changed:
        return found
    dtypes = [_number_type(sample.iloc[:, index].dtype) for index in range(sample.shape[1])]
    raw = raw_tests(changed, [origins.outputs[test.feature].column for test in changed], dtypes, output)
    for test, new in zip(changed, raw, strict=True):
        found[test] = _number_node(origins.outputs[test.feature].column, new)
    return found


def _number_type(dtype: Any) -> np.dtype[Any]:
    return dtype if isinstance(dtype, np.dtype) and dtype.kind in "biuf" else np.dtype(np.float64)


def _number_node(column: int, new: RawTest) -> NewNode:
    # The default direction is a side of the new node, whose sides are those of the old one, or swapped.
    default_left = new.missing_left != new.swapped
    return NewNode(column, new.threshold, NAN_IS_MISSING | (DEFAULT_LEFT if default_left else 0), None, new.swapped)


def _of_categories(
    tests: list[NodeTest],
    origins: Origins,
    names: tuple[str, ...],
    sample: pd.DataFrame,
    output: StepsOutput,
    notes: list[str],
    unseen_as_missing: bool,
) -> dict[NodeTest, NewNode]:
    """The new nodes of tests whose raw column is a category; notes are added to `notes`."""
    ways = {
        column: _category_ways(column, values, sample.iloc[:, column].dtype, output)
        for column, values in origins.categories.items()
    }
    found: dict[NodeTest, NewNode] = {}
    told_apart: set[int] = set()
    for test in tests:
        column = origins.outputs[test.feature].column
        if column not in ways:
            continue
        way = ways[column]
        left = test.goes_left(way.known[:, test.feature])
        # LightGBM sends a missing category right, so the children are swapped where it has to go left.
        other = way.missing if way.missing is not None else way.unseen
        swapped = bool(other is not None and test.goes_left(other[[test.feature]])[0])
        if way.unseen is not None and bool(test.goes_left(way.unseen[[test.feature]])[0]) != swapped:
            told_apart.add(column)
        found[test] = NewNode(column, 0.0, CATEGORICAL, bitmap(~left if swapped else left), swapped)
    for column, way in ways.items():
        name = names[column]
        if column in told_apart:
            if not unseen_as_missing:
                raise ConversionRefused(
                    f"the pipeline tells a missing value of {name!r} from one that is no category, and the service "
                    "takes both as missing. With --unseen-as-missing it is converted all the same"
                )
            notes.append(
                f"{name}: a value that is no category counts as missing; the pipeline gives it a way of its own. "
                "MODEL_UNSEEN_CATEGORIES=refuse refuses such a value"
            )
        elif way.unseen is None:
            notes.append(
                f"{name}: the pipeline refuses a value that is no category, and the service takes it as missing, "
                "unless MODEL_UNSEEN_CATEGORIES=refuse"
            )
        if way.missing is None:
            notes.append(f"{name}: the pipeline refuses a missing value, and the service answers it")
    return found


def _category_ways(column: int, values: tuple[Category, ...], dtype: Any, output: StepsOutput) -> CategoryWays:
    """Outputs of the steps for the values of a category column."""
    text = any(isinstance(value, str) for value in values)
    unseen: Category = (
        UNSEEN_TEXT if text else 1 + max((value for value in values if not isinstance(value, str)), default=0)
    )

    def outputs(chosen: list[Any], kind: Any) -> NDArray[np.float64]:
        return output.compute({column: pd.Series(chosen, dtype=kind)}, len(chosen))

    def attempt(value: Any, kind: Any) -> NDArray[np.float64] | None:
        try:
            return outputs([value], kind)[0]
        except (ValueError, TypeError):
            return None

    missing_type = dtype if text else np.float64
    missing = attempt(np.nan, missing_type)
    return CategoryWays(
        known=outputs(list(values), dtype) if values else np.zeros((0, 0)),
        missing=missing if missing is not None else attempt(None, missing_type),
        unseen=attempt(unseen, dtype if not isinstance(values[0] if values else 0, bool) else np.int64),
    )


def _rewrite(nodes: Nodes, new: list[NewNode], places: dict[int, int]) -> None:
    """Put the new tests in the place of a tree's nodes."""
    swapped = np.array([node.swapped for node in new])
    nodes.feature = np.array([places[node.feature] for node in new], np.int64)
    nodes.threshold = np.array([node.threshold for node in new])
    nodes.decision = np.array([node.decision for node in new], np.int64)
    nodes.left, nodes.right = np.where(swapped, nodes.right, nodes.left), np.where(swapped, nodes.left, nodes.right)
    nodes.sets = {index: node.members for index, node in enumerate(new) if node.members is not None}
