"""A model made again elsewhere of what it was made of here."""

import pickle
from pathlib import Path

import msgspec
import numpy as np
import pytest

from app.config.settings import Settings
from app.models.process.worker import ModelWorker
from app.models.refusal import ModelRefused
from app.models.registry.embedded import BUNDLED
from app.udf.portable import load_portable
from tests.score.support import houses


def test_a_pickled_model_answers_with_the_same_bits(tmp_path: Path) -> None:
    settings = Settings(model_path=str(BUNDLED / "model"), data_dir=tmp_path)
    served, portable = load_portable(settings, ModelWorker(settings))
    other = pickle.loads(pickle.dumps(portable)).served()
    rows = np.column_stack([houses(200).column(name).to_numpy() for name in served.feature_names])
    here, there = (model.engine.evaluate(rows) for model in (served, other))
    assert np.array_equal(here.prediction, there.prediction)
    assert here.difficulty is not None
    assert there.difficulty is not None
    assert np.array_equal(here.difficulty, there.difficulty)
    assert (other.identity, other.artifact.digest) == (served.identity, served.artifact.digest)
    with pytest.raises(ModelRefused, match="another version of Madrone"):
        msgspec.structs.replace(portable, kernels="0").served()


def test_a_model_that_lightgbm_evaluates_and_settings_of_features_go_with_it(tmp_path: Path) -> None:
    import lightgbm as lgb

    values = np.random.default_rng(2).normal(size=(400, 2))
    data = lgb.Dataset(values, values.sum(axis=1), feature_name=["x", "y"])
    lgb.train({"linear_tree": True, "verbose": -1, "num_threads": 1}, data, 3).save_model(tmp_path / "m.txt")
    settings = Settings(model_path=str(tmp_path / "m.txt"), data_dir=tmp_path, model_unseen_categories="refuse")
    served, portable = load_portable(settings, ModelWorker(settings))
    other = pickle.loads(pickle.dumps(portable)).served()
    assert served.engine.status().forest.evaluator == "lightgbm"
    assert np.array_equal(other.engine.predict(values), served.engine.predict(values))
    assert other.artifact.features == served.artifact.features
