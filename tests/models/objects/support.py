"""Small models of LightGBM's scikit-learn API, and the ways in which they are stored."""

import io
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import lightgbm as lgb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.models.objects.estimator import read_estimator
from app.models.refusal import ModelRefused

PARAMETERS: dict[str, Any] = {
    "n_estimators": 4,
    "num_leaves": 5,
    "min_child_samples": 5,
    "n_jobs": 1,
    "random_state": 1,
    "deterministic": True,
    "verbosity": -1,
}
ROWS = np.random.default_rng(5).normal(size=(120, 3))
CLASSES = (ROWS[:, 0] > 0.3).astype(int) + (ROWS[:, 1] > 0)
"""int64[120], from 0 to 2."""


def fitted(kind: type[Any] = lgb.LGBMRegressor, target: Any = None, **changes: Any) -> Any:
    """A model of a few trees on `ROWS`."""
    options = changes.pop("fit", {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(**PARAMETERS | changes).fit(ROWS, ROWS[:, 0] if target is None else target, **options)


def labelled(labels: Any, **changes: Any) -> lgb.LGBMClassifier:
    """A classifier of two or three classes with these labels."""
    labels = np.asarray(labels)
    return fitted(lgb.LGBMClassifier, labels[np.minimum(CLASSES, len(labels) - 1)], **changes)


def early_stopped(kind: type[Any], target: Any, **changes: Any) -> Any:
    """A model whose best iteration is not its last."""
    other = np.random.default_rng(6).normal(size=ROWS.shape)
    fit = {"eval_set": [(other, target)], "callbacks": [lgb.early_stopping(3, verbose=False)]}
    return fitted(kind, target, **{"n_estimators": 40, "fit": fit} | changes)


def of_joblib(compress: Any, protocol: int | None = None) -> Callable[[Any], bytes]:
    def store(model: Any) -> bytes:
        file = io.BytesIO()
        joblib.dump(model, file, compress=compress, protocol=protocol)
        return file.getvalue()

    return store


def of_skops(model: Any) -> bytes:
    import skops.io  # takes seconds, which each of the tests' processes would take

    return skops.io.dumps(model)


def of_lz4(model: Any) -> bytes:
    """As joblib writes it where the package lz4 is installed: one frame."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "lz4") as stream:
        stream.write(of_joblib(0)(model))
    return sink.getvalue().to_pybytes()


FORMATS: dict[str, Callable[[Any], bytes]] = {
    "pickle": lambda model: pickle.dumps(model, protocol=pickle.DEFAULT_PROTOCOL),
    "pickle-0": lambda model: pickle.dumps(model, protocol=0),
    "pickle-1": lambda model: pickle.dumps(model, protocol=1),
    "pickle-2": lambda model: pickle.dumps(model, protocol=2),
    "pickle-5": lambda model: pickle.dumps(model, protocol=5),
    "cloudpickle": lambda model: cloudpickle.dumps(model, protocol=pickle.DEFAULT_PROTOCOL),
    "skops": of_skops,
    "joblib": of_joblib(0),
    "joblib-0": of_joblib(0, 0),
    "joblib-1": of_joblib(("zlib", 3), 1),
    "joblib-zlib": of_joblib(("zlib", 3)),
    "joblib-gzip": of_joblib(("gzip", 3)),
    "joblib-bz2": of_joblib(("bz2", 3)),
    "joblib-lzma": of_joblib(("lzma", 3)),
    "joblib-xz": of_joblib(("xz", 3)),
    "joblib-lz4": of_lz4,
}


def refusal(content: bytes) -> str:
    """Reason why the object in a file is not served."""
    try:
        estimator = read_estimator(content)
    except ModelRefused as error:
        return str(error)
    raise AssertionError(f"it is served as {estimator.class_name}")


def cases() -> NDArray[np.float64]:
    """float64[140, 3]: the rows that models are fitted on, and others with missing and infinite values."""
    others = np.random.default_rng(8).normal(size=(20, 3)) * 3
    others[:5, 0], others[5:8, 1], others[8:10, 2] = np.nan, np.inf, -np.inf
    return np.concatenate([ROWS, others])


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
