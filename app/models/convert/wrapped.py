"""The one LightGBM model inside a Python object, and the steps that rows take before it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from app.models.convert.refused import ConversionRefused

MAX_OBJECTS = 100_000
MAX_DEPTH = 12
SEARCHES = ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV")
COMPOUNDS = {
    "CalibratedClassifierCV": "it corrects the probabilities of its models by curves of their own",
    "VotingClassifier": "it averages several models",
    "VotingRegressor": "it averages several models",
    "StackingClassifier": "it feeds the answers of several models to another",
    "StackingRegressor": "it feeds the answers of several models to another",
    "BaggingClassifier": "it averages several models",
    "BaggingRegressor": "it averages several models",
    "AdaBoostClassifier": "it weighs several models",
    "AdaBoostRegressor": "it weighs several models",
    "MultiOutputClassifier": "it has a model of its own for each output",
    "MultiOutputRegressor": "it has a model of its own for each output",
    "ClassifierChain": "it has a model of its own for each output",
    "RegressorChain": "it has a model of its own for each output",
    "OneVsRestClassifier": "it has a model of its own for each class",
    "OneVsOneClassifier": "it has a model of its own for each pair of classes",
    "TransformedTargetRegressor": "it transforms what the model predicts",
}
"""Estimators of scikit-learn whose predictions are not those of one booster, with what they do."""


class Step(NamedTuple):
    """A fitted transformer of a pipeline, and where it is."""

    path: str
    transformer: Any


class Wrapped(NamedTuple):
    """A LightGBM model inside an object.

    Attributes:
        path: Place in the object, such as `best_estimator_ → steps[1] 'model'`; empty for the object itself.
        model: LightGBM's `Booster` or a fitted model of its scikit-learn API.
        steps: Transformers that rows take before the model.
        outer: Outermost estimator whose predictions are those of the model after the steps.
        held: Whether an object of another kind holds that estimator, and may answer with anything else.
    """

    path: str
    model: Any
    steps: tuple[Step, ...]
    outer: Any
    held: bool = False

    @property
    def booster(self) -> Any:
        """The `lightgbm.Booster`."""
        return getattr(self.model, "booster_", self.model)

    @property
    def labels(self) -> tuple[Any, ...] | None:
        """Class labels of a classifier whose objective is LightGBM's; None for any other model."""
        import lightgbm as lgb

        if not isinstance(self.model, lgb.LGBMClassifier) or callable(self.model.objective):
            return None
        return tuple(getattr(label, "item", lambda label=label: label)() for label in self.model.classes_)


def is_named(transformer: Any, word: str) -> bool:
    """Whether a word such as `drop`, or None for `passthrough`, is in the place of a transformer."""
    return (transformer is None and word == "passthrough") or (isinstance(transformer, str) and transformer == word)


def find_model(thing: Any) -> Wrapped:
    """Find the LightGBM model in an object.

    Raises:
        ConversionRefused: There is none or more than one, or the object computes something else from it.
    """
    if (wrapped := _unwrap(thing, "", ())) is not None:
        return wrapped
    found: dict[int, Wrapped] = {}
    for path, inner in _inside(thing):
        if (wrapped := _unwrap(inner, path, ())) is not None:
            found.setdefault(id(wrapped.booster), wrapped)
    kind = type(thing).__name__
    places = ", ".join(wrapped.path for wrapped in list(found.values())[:5])
    if not found:
        raise ConversionRefused(f"the model is a {kind}, in which there is no fitted LightGBM model")
    if len(found) > 1:
        raise ConversionRefused(f"the model is a {kind} with {len(found)} LightGBM models, and not one: {places}")
    return next(iter(found.values()))._replace(held=True)


def _unwrap(thing: Any, path: str, steps: tuple[Step, ...]) -> Wrapped | None:
    """The model in an object that predicts what one LightGBM model does, or None where the object is another.

    Raises:
        ConversionRefused: The object is an estimator of scikit-learn that predicts something else.
    """
    import lightgbm as lgb
    from sklearn.base import BaseEstimator
    from sklearn.pipeline import Pipeline

    if isinstance(thing, lgb.Booster):
        return Wrapped(path, thing, steps, thing)
    if isinstance(thing, lgb.LGBMModel):
        return Wrapped(path, thing, steps, thing) if thing.__sklearn_is_fitted__() else None
    name = type(thing).__name__
    if not isinstance(thing, BaseEstimator):
        return None
    if name in SEARCHES:
        best = getattr(thing, "best_estimator_", None)
        if best is None:
            return None
        inner = _unwrap(best, _join(path, "best_estimator_"), steps)
    elif isinstance(thing, Pipeline):
        places = [_join(path, f"steps[{index}] {step_name!r}") for index, (step_name, _) in enumerate(thing.steps)]
        before = [
            Step(place, step)
            for place, (_, step) in zip(places[:-1], thing.steps, strict=False)
            if not is_named(step, "passthrough")
        ]
        inner = _unwrap(thing.steps[-1][1], places[-1], (*steps, *before))
    elif name in COMPOUNDS:
        inside = [place for place, model in _inside(thing) if _is_fitted(model)]
        where = f"; LightGBM models in it: {len(inside)}, at {', '.join(inside[:5])}" if inside else ""
        at = f" at {path}" if path else ""
        raise ConversionRefused(f"the model is a {name}{at}, and {COMPOUNDS[name]}: no one booster does that{where}")
    else:
        return None
    return None if inner is None else inner._replace(outer=thing)


def _is_fitted(thing: Any) -> bool:
    import lightgbm as lgb

    return isinstance(thing, lgb.Booster) or (isinstance(thing, lgb.LGBMModel) and thing.__sklearn_is_fitted__())


def _inside(thing: Any) -> Iterator[tuple[str, Any]]:
    """Objects in the attributes of an object and in its containers, each once, with their paths.

    What is found in a LightGBM model, a search or a pipeline is not gone into: `_unwrap` does.
    """
    import lightgbm as lgb
    from sklearn.pipeline import Pipeline

    seen = {id(thing)}
    waiting: list[tuple[str, Any]] = list(_children("", thing))
    depth = 0
    while waiting and len(seen) < MAX_OBJECTS and depth < MAX_DEPTH:
        following: list[tuple[str, Any]] = []
        for path, inner in waiting:
            if id(inner) in seen:
                continue
            seen.add(id(inner))
            yield path, inner
            if not isinstance(inner, (lgb.LGBMModel, lgb.Booster, Pipeline)) and type(inner).__name__ not in SEARCHES:
                following.extend(_children(path, inner))
        waiting, depth = following, depth + 1


def _children(path: str, thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, dict):
        yield from ((_join(path, repr(key)[:50]), value) for key, value in thing.items())
    elif isinstance(thing, (list, tuple)):
        yield from ((f"{path}[{index}]", value) for index, value in enumerate(thing))
    elif not isinstance(thing, type) and isinstance(attributes := getattr(thing, "__dict__", None), dict):
        yield from ((_join(path, key), value) for key, value in attributes.items())


def _join(path: str, part: str) -> str:
    return f"{path} → {part}" if path else part
