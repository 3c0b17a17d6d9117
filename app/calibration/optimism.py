"""Whether rows look like those that a booster was fitted on.

LightGBM sets the value of a leaf so that, without regularisation, -sum(g) / sum(h) over the leaf's training rows is the
value divided by the learning rate (g and h are the derivatives of the loss before the tree; see T. Chen and
C. Guestrin, XGBoost, KDD 2016, section 2.2). So for the rows that a tree v of the rate r was fitted on

    r * sum(-g v) / sum(h v²)

is 1 or more, whatever the tree has learned. On other rows it is the share of what the tree says that is true of them,
which falls as a booster begins to learn its rows by heart. While it is still near 1 on other rows too, errors on
training rows are little smaller than those on others. A tree that sees a part of the rows only (bagging, GOSS) says to
the rest what it says to other rows, so that the figure is smaller there.
"""

import re

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from app.codecs.rules import FloatArray

TREES = 10
"""Last trees that are looked at."""

SUSPICIOUS = 0.5
"""Share from which on the rows look like training rows."""

SHRINKAGE = re.compile(r"^shrinkage=(\S+)$", re.MULTILINE)


def fitted_share(text: str, features: NDArray[np.floating], actual: FloatArray) -> float | None:
    """Mean of the figure above over the last trees.

    Args:
        text: The booster in LightGBM's native text.
        features: float32[N, O] or float64[N, O], its features.
        actual: float64[N], the target: a number, or the class 0 or 1.

    Returns:
        None where the formula does not hold: for objectives other than regression and binary, forests that are not
        boosted, trees that were changed afterwards, or fewer than two trees.
    """
    objective = re.search(r"^objective=(\S+)(.*)$", text, re.MULTILINE)
    rates = [float(rate) for rate in SHRINKAGE.findall(text)]
    if objective is None or len(rates) < 2 or "average_output" in text.partition("Tree=0")[0]:
        return None
    binary = objective[1] == "binary"
    # A transformed target, or another slope of the logistic function, has other derivatives.
    if not (binary and objective[2].strip() == "sigmoid:1") and not (
        objective[1] == "regression" and not objective[2].strip()
    ):
        return None
    if len(set(rates[1:])) != 1 or not 0 < rates[-1] < 1:  # dropped trees (dart) have rates of their own
        return None
    booster = lgb.Booster(model_str=text)
    first = max(1, len(rates) - TREES)
    scores = np.asarray(booster.predict(features, raw_score=True, num_iteration=first, num_threads=1))
    shares: list[float] = []
    for place in range(first, len(rates)):
        tree = np.asarray(
            booster.predict(features, raw_score=True, start_iteration=place, num_iteration=1, num_threads=1)
        )
        expected = 1 / (1 + np.exp(-scores)) if binary else scores
        hessian = expected * (1 - expected) if binary else 1.0
        size = float(np.sum(hessian * tree**2))
        if size > 0:
            shares.append(rates[-1] * float(np.sum((actual - expected) * tree)) / size)
        scores = scores + tree
    return float(np.mean(shares)) if shares else None
