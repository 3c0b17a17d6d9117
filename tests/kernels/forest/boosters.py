"""What the tests of forests share: model texts that no training would give, rows hard for a model, and the oracle."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import lightgbm as lgb
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.forest.status import Kernel

ZERO = float(np.float32(1e-35))
"""LightGBM's kZeroThreshold: a value up to this far from zero is zero."""

KERNELS = (None, *get_args(Kernel))
"""What can take a batch: the kernels that are measured to be the fastest, or one of them alone."""

CATEGORICAL, DEFAULT_LEFT = 1, 2
MISSING = {"none": 0, "zero": 4, "nan": 8}
"""Bits of a decision type."""

TRAINED: dict[str, dict[str, Any]] = {
    "numbers": {},
    "zero as missing": {"zero_as_missing": True},
    "no missing": {"use_missing": False},
    "classes": {"objective": "multiclass", "num_class": 3},
    "a random forest": {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6},
}
"""Parameters that LightGBM trains the kinds of forests with whose rules differ."""


def _around(*values: float) -> list[float]:
    """The values, their neighbours, and the same of the other sign."""
    near = [near for value in values for near in (value, math.nextafter(value, 0), math.nextafter(value, math.inf))]
    return [*near, *(-value for value in near)]


HARD_NUMBERS = (*_around(0.0, ZERO, 1e-35, 1.0, 1e300), 1e-36, -1e-36, 2e-35, -2e-35, 1e-310, -1e-310, 0.5, -3.25)
"""Thresholds and values where comparisons go wrong, zero and its neighbourhood above all."""

HARD_CATEGORIES = (
    *(0, 1, 31, 32, 63, 64, 255, 256, 257, 1023, 0.5, 1.99, 31.999, -0.5, -0.999, -1, -1.5, -32),
    *(2.0**24 + 1, 2.0**31 - 1, 2.0**31, 2.0**31 + 3, 2.0**32, 2.0**32 + 1, 2.0**63, 2.0**64, -(2.0**31), -(2.0**32)),
)
HARD_VALUES = np.array([*HARD_NUMBERS, *HARD_CATEGORIES, math.inf, -math.inf, math.nan])
"""float64[V]: what a cell of a row may hold to do harm."""

HARD_LEAVES = (0.0, -0.0, 5e-324, -5e-324, 1e-310, 1e308, -1e308, 1.0, -1.0, 2.0**-53, 1e16, 0.1, math.inf)


class Split(NamedTuple):
    """One node.

    Attributes:
        feature: Column.
        threshold: Of a numerical split.
        decision: The decision type's bits.
        words: The bitmap of a categorical split, 32 categories a word.
    """

    feature: int
    threshold: float
    decision: int
    words: Sequence[int] = ()


def divisions(shape: str, leaves: int, random: np.random.Generator) -> list[int]:
    """The leaf that each split divides: any (`grown`), or always the outermost one on the `left` or the `right`."""
    if shape == "grown":
        return [int(random.integers(node + 1)) for node in range(leaves - 1)]
    return [node if shape == "right" else 0 for node in range(leaves - 1)]


def tree_text(
    splits: Sequence[Split], leaves: Sequence[int], values: Sequence[float], counts: Sequence[int] | None = None
) -> str:
    """The lines of a tree, grown as LightGBM does: split i divides leaf `leaves[i]`, whose right part is leaf i + 1.

    `counts` are the training rows of each leaf, 1 if they are not given.
    """
    counts = [1] * len(values) if counts is None else counts
    left: list[int] = []
    right: list[int] = []
    places: dict[int, tuple[list[int], int]] = {}
    for node, leaf in enumerate(leaves):
        if leaf in places:
            column, parent = places[leaf]
            column[parent] = node
        left.append(~leaf)
        right.append(~(node + 1))
        places[leaf], places[node + 1] = (left, node), (right, node)
    rows = [0] * len(splits)
    for node in reversed(range(len(splits))):
        rows[node] = sum(rows[child] if child >= 0 else counts[~child] for child in (left[node], right[node]))
    # The sets stand in the opposite order of their nodes, so that none is found by counting nodes.
    sets = [split.words for split in reversed(splits) if split.decision & CATEGORICAL]
    numbers = iter(reversed(range(len(sets))))
    thresholds = [next(numbers) if split.decision & CATEGORICAL else split.threshold for split in splits]
    columns: dict[str, Sequence[object]] = {
        "num_leaves": [len(values)],
        "num_cat": [len(sets)],
        "split_feature": [split.feature for split in splits],
        "split_gain": [1] * len(splits),
        "threshold": [repr(threshold) for threshold in thresholds],
        "decision_type": [split.decision for split in splits],
        "left_child": left,
        "right_child": right,
        "leaf_value": [repr(float(value)) for value in values],
        "leaf_weight": [1] * len(values),
        "leaf_count": counts,
        "internal_value": [0] * len(splits),
        "internal_weight": [0] * len(splits),
        "internal_count": rows,
    }
    if sets:
        columns["cat_boundaries"] = np.cumsum([0, *map(len, sets)]).tolist()
        columns["cat_threshold"] = [word for words in sets for word in words]
    columns |= {"is_linear": [0], "shrinkage": [1]}
    return "".join(f"{name}={' '.join(map(str, column))}\n" for name, column in columns.items())


def model_text(
    trees: Sequence[str], features: int, outputs: int = 1, objective: str = "regression", average: bool = False
) -> str:
    """A whole model of such trees; `objective` empty for a custom one, `average` for a random forest."""
    blocks = [f"Tree={index}\n{tree}\n\n" for index, tree in enumerate(trees)]
    header = [
        *("tree", "version=v4", f"num_class={outputs}", f"num_tree_per_iteration={outputs}", "label_index=0"),
        f"max_feature_idx={features - 1}",
        *([f"objective={objective}"] if objective else []),
        *(["average_output"] if average else []),
        f"feature_names={' '.join(f'Column_{index}' for index in range(features))}",
        f"feature_infos={' '.join(['none'] * features)}",
        f"tree_sizes={' '.join(str(len(block)) for block in blocks)}",
    ]
    return "\n".join(header) + "\n\n" + "".join(blocks) + "end of trees\n"


def without(text: str, *lines: str) -> str:
    """The text without lines that begin so, its sizes of trees mended."""
    start, end = text.index("Tree=0"), text.index("end of trees")
    kept = [line for line in text[:start].split("\n") if not line.startswith(lines)]
    blocks = re.findall(r"Tree=.*?(?=Tree=|\Z)", text[start:end], re.DOTALL)
    trees = ["\n".join(line for line in block.split("\n") if not line.startswith(lines)) for block in blocks]
    sizes = f"tree_sizes={' '.join(str(len(tree)) for tree in trees)}"
    head = [sizes if line.startswith("tree_sizes=") else line for line in kept]
    return "\n".join(head) + "".join(trees) + text[end:]


def old(text: str, version: str) -> str:
    """A text of today as the writer of another version wrote it (gbdt_model_text.cpp and tree.cpp of its tag)."""
    text = text.replace("feature_importances:", "feature importances:")
    if version == "3.3":
        return text.replace("version=v4", "version=v3")
    text = without(text, "is_linear=", "leaf_weight=", "internal_weight=").replace("version=v4", "version=v2")
    if version == "2.2":
        return text
    text = text.replace("end of trees\n", "")
    if version == "2.1":
        return text.replace("\nparameters:", "parameters:").replace("end of parameters\n", "")
    parameters = text.index("\nparameters:")
    text = text[:parameters] + text[text.index("\npandas_categorical:") :]
    return text if version == "2.0.12" else re.sub(r"version=.*\n|tree_sizes=.*\n", "", text)


def scale_of(text: str) -> float:
    """The largest leaf value of each tree, added up."""
    lines = re.findall(r"^leaf_value=(.*)$", text, re.MULTILINE)
    return sum(max(abs(float(value)) for value in line.split()) for line in lines)


@st.composite
def model_texts(draw: st.DrawFn, most_nodes: int = 2500) -> str:
    """Any model: trees of every shape over features of every kind, up to about `most_nodes` nodes in all."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
    kinds = draw(st.lists(st.sampled_from(["number", "category", "mixed"]), min_size=1, max_size=6), label="kinds")
    missing = draw(st.lists(st.sampled_from([*MISSING, "mixed"]), min_size=len(kinds), max_size=len(kinds)))
    outputs = draw(st.sampled_from([1, 1, 2, 3, 7]), label="outputs")
    leaves = draw(st.sampled_from([1, 2, 3, 8, 31, 32, 33, 63, 64, 65, 66, 128, 129, 300]), label="leaves")
    iterations = draw(st.integers(0, max(1, min(40, most_nodes // (leaves * outputs)))), label="iterations")
    shape = draw(st.sampled_from(["grown", "left", "right", "any"]), label="shape")
    thresholds = draw(st.sampled_from(["hard", "few", "many"]), label="thresholds")
    values = draw(st.sampled_from(["ordinary", "wide", "hard"]), label="values")
    words = draw(st.sampled_from([1, 2, 9, 40]), label="words")
    few = random.normal(size=5)

    def split() -> Split:
        feature = int(random.integers(len(kinds)))
        kind = missing[feature] if missing[feature] != "mixed" else random.choice([*MISSING])
        decision = MISSING[kind] | DEFAULT_LEFT * int(random.integers(2))
        if kinds[feature] == "category" or (kinds[feature] == "mixed" and random.random() < 0.5):
            # A word is empty, full or anything between; the bitmap may have no word at all.
            bitmap = random.integers(0, 2**32, random.integers(words + 1)) | random.choice([0, 0, 2**32 - 1])
            return Split(feature, 0, decision | CATEGORICAL, bitmap.tolist())
        pools = {"hard": random.choice(HARD_NUMBERS), "few": random.choice(few), "many": random.normal()}
        return Split(feature, float(pools[thresholds]), decision)

    def tree() -> str:
        count = leaves if random.random() < 0.5 else int(random.integers(1, leaves + 1))
        form = random.choice(["grown", "left", "right"]) if shape == "any" else shape
        divided = divisions(form, count, random)
        chosen = {
            "ordinary": random.normal(size=count),
            "wide": random.normal(size=count) * 10.0 ** random.uniform(-300, 300, count),
            "hard": random.choice(HARD_LEAVES, count),
        }[values]
        counts = random.integers(1, 1000, count) if random.random() < 0.9 else random.choice([1, 2**20], count)
        return tree_text([split() for _ in divided], divided, chosen.tolist(), counts.tolist())

    trees = [tree() for _ in range(iterations * outputs)]
    return model_text(trees, len(kinds), outputs, "" if outputs > 1 else "regression", draw(st.booleans()))


def hard_rows(text: str, count: int, seed: int = 0) -> NDArray[np.float64]:
    """Rows that meet a model where it may fail: its thresholds and their neighbours, its sets' edges, `HARD_VALUES`.

    Returns:
        float64[count, F], the first of them rows of one hard value each.
    """
    fields = [
        {key: value for key, _, value in (line.partition("=") for line in block.splitlines())}
        for block in text.split("\nTree=")
    ]
    features = int(fields[0]["max_feature_idx"]) + 1
    met: list[list[float]] = [[math.nan, 0.0] for _ in range(features)]
    for tree in fields[1:]:
        bounds = [int(bound) for bound in tree.get("cat_boundaries", "").split()]
        nodes = zip(*(tree[name].split() for name in ("split_feature", "threshold", "decision_type")), strict=True)
        for feature, threshold, decision in nodes:
            value = float(threshold)
            if int(decision) & CATEGORICAL:
                last = 32 * (bounds[int(value) + 1] - bounds[int(value)])
                met[int(feature)] += [last - 1, last, last / 2, last / 3]
            else:
                met[int(feature)] += [value, math.nextafter(value, -math.inf), math.nextafter(value, math.inf)]
    random = np.random.default_rng(seed)
    shape = count, features
    near = np.column_stack([random.choice(values, count) for values in met])
    anything = np.where(random.random(shape) < 0.5, random.choice(HARD_VALUES, shape), random.normal(size=shape))
    X = np.where(random.random(shape) < 0.6, near, anything)
    X[: len(HARD_VALUES)] = HARD_VALUES[:count, None]
    return X


def oracle(text: str, X: NDArray[np.floating], raw_score: bool = True) -> NDArray[np.float64]:
    """What LightGBM itself predicts; float64[B] or float64[B, K]."""
    return np.asarray(lgb.Booster(model_str=text).predict(X, raw_score=raw_score, num_threads=1))


def assert_same_bits(got: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    """Unlike a comparison of numbers, tells 0.0 from -0.0; one NaN is as good as another."""
    assert got.dtype == expected.dtype == np.float64
    assert got.shape == expected.shape
    same = (got.view(np.uint64) == expected.view(np.uint64)) | (np.isnan(got) & np.isnan(expected))
    wrong = np.flatnonzero(~same)
    assert not len(wrong), (
        f"{len(wrong)} of {same.size} differ, first number {wrong[0]}: "
        f"{got.ravel()[wrong[0]]!r}, not {expected.ravel()[wrong[0]]!r}"
    )
