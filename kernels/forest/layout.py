"""A model text laid out for the kernels: plain data, of which a `Forest` is made.

How much time and memory a text takes to read and lay out depends on the text. Since the result is plain data, another
process, which can be ended, can do it for the one that predicts.
"""

import msgspec

from kernels.forest.errors import UnsupportedForestError
from kernels.forest.evaluators import quickscorer, sliced, traversal
from kernels.forest.evaluators.quickscorer import QuickScorer
from kernels.forest.evaluators.sliced import SlicedForest
from kernels.forest.evaluators.traversal import Lanes, Traversal
from kernels.forest.explanation.covers import Covers, covers_of
from kernels.forest.model_text import ModelText, read_model_text
from kernels.forest.objective import conversion
from kernels.forest.pandas_categories import Category
from kernels.forest.predicates import Predicates, collect
from kernels.forest.tree_shape import shape_of


class ForestLayout(msgspec.Struct, frozen=True, tag=True):
    """The trees of a model that the kernels evaluate.

    Attributes:
        feature_names: One for each feature, blanks replaced by underscores.
        n_outputs: K, the raw scores of one row.
        n_trees: Trees in all.
        objective: As LightGBM writes it.
        average: Whether the sum of the leaf values is divided by the number of iterations.
        categorical: As of a `ModelText`.
        pandas_categories: As of a `ModelText`.
        codes: As of a `ModelText`.
        predicates: Distinct tests of the nodes.
        sliced: Layout for many rows.
        quick: Layout of QuickScorer, for few rows.
        walk: Trees, node by node.
        lanes: Layout of the traversal, for few rows.
        covers: Training rows of each record of `walk`, for explanations.
    """

    feature_names: tuple[str, ...]
    n_outputs: int
    n_trees: int
    objective: str
    average: bool
    categorical: tuple[int, ...]
    pandas_categories: tuple[tuple[Category, ...], ...]
    codes: tuple[int, ...]
    predicates: Predicates
    sliced: SlicedForest
    quick: QuickScorer
    walk: Traversal
    lanes: Lanes
    covers: Covers


class BoosterText(msgspec.Struct, frozen=True, tag=True):
    """A model of a kind that the kernels do not evaluate.

    Attributes:
        feature_names: As of a `ForestLayout`, as are the next six.
        text: LightGBM's native text, read and found whole.
        reason: Why the kernels do not evaluate it.
    """

    feature_names: tuple[str, ...]
    n_outputs: int
    n_trees: int
    objective: str
    categorical: tuple[int, ...]
    pandas_categories: tuple[tuple[Category, ...], ...]
    codes: tuple[int, ...]
    text: str
    reason: str


ForestData = ForestLayout | BoosterText


def lay_out(model: ModelText) -> ForestLayout:
    """Lay out a model for the kernels.

    Raises:
        ForestError: Its objective's parameters are missing or out of range.
        UnsupportedForestError: The kernels do not evaluate it.
    """
    if model.unsupported:
        raise UnsupportedForestError(f"the booster is not one that the kernels evaluate: {model.unsupported}")
    conversion(model.objective)
    shape, predicates = shape_of(model.trees), collect(model.trees)
    walk = traversal.lay_out(shape, predicates)
    return ForestLayout(
        feature_names=model.feature_names,
        n_outputs=model.n_outputs,
        n_trees=model.n_trees,
        objective=model.objective,
        average=model.average,
        categorical=model.categorical,
        pandas_categories=model.pandas_categories,
        codes=model.codes,
        predicates=predicates,
        sliced=sliced.slice_forest(shape, predicates, model.n_outputs),
        quick=quickscorer.quick_scorer(shape, predicates),
        walk=walk,
        lanes=traversal.in_lanes(walk, predicates),
        covers=covers_of(model.trees, shape),
    )


def read_forest(text: str) -> ForestData:
    """Read LightGBM's native text, as `Booster.save_model` writes it.

    Args:
        text: All of it.

    Raises:
        ForestError: The text is damaged or cannot be used.
    """
    model = read_model_text(text)
    try:
        return lay_out(model)
    except UnsupportedForestError as error:
        return BoosterText(
            feature_names=model.feature_names,
            n_outputs=model.n_outputs,
            n_trees=model.n_trees,
            objective=model.objective,
            categorical=model.categorical,
            pandas_categories=model.pandas_categories,
            codes=model.codes,
            text=text,
            reason=str(error),
        )
