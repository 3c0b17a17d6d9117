"""Which of LightGBM's classes an object's own class is or derives from, and whether it predicts as that one does.

A pickle names an importable class, and says nothing of its bases. Only a class that cloudpickle wrote into the file
itself, one of a notebook or script, is described with its bases and attributes.
"""

from typing import Any, cast

from app.models.objects.description import Described, Named, dict_of, kind_of

BOOSTER = "lightgbm.basic.Booster"
KINDS = ("Regressor", "Classifier", "Ranker")
WRAPPERS = frozenset(
    {"lightgbm.sklearn.LGBMModel"}
    | {f"lightgbm.sklearn.LGBM{kind}" for kind in KINDS}
    | {f"lightgbm.dask.DaskLGBM{kind}" for kind in KINDS}
)

HARMLESS = frozenset(
    {"builtins.object", "sklearn.base.BaseEstimator"} | {f"sklearn.base.{kind}Mixin" for kind in KINDS}
)
"""Bases that do not predict."""

PREDICTING = ("predict", "_process_params", "__getattr", "__setstate", "booster_", "_Booster")
"""How the names of attributes begin that `predict` depends on."""


def lightgbm_class(thing: Any) -> str | None:
    """Name of the class of LightGBM's scikit-learn API whose predictions are an object's; None if that is not known."""
    return _origin(kind_of(thing)) if isinstance(thing, Described) else None


def _origin(kind: Any) -> str | None:
    for _ in range(100):  # the bases of bases; a class that derives from itself ends here as well
        if isinstance(kind, Named):
            return kind.name if kind.name in WRAPPERS else None
        if not isinstance(kind, Described) or any(name.startswith(PREDICTING) for name in _defined(kind)):
            return None
        bases = next((part for part in kind.arguments if isinstance(part, tuple)), ())
        others = [base for base in cast(tuple[Any, ...], bases) if not _is_harmless(base)]
        if len(others) != 1:
            return None
        kind = others[0]
    return None


def _is_harmless(base: Any) -> bool:
    return isinstance(base, Named) and base.name in HARMLESS


def _defined(kind: Described) -> list[str]:
    """Names of the attributes that a class in the file defines."""
    parts = cast(tuple[Any, ...], kind.state) if isinstance(kind.state, tuple) else (kind.state,)
    return [name for part in (*parts, *kind.arguments) for name in dict_of(part)]
