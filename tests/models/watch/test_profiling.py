"""`madrone profile`: the rows of a file as the model's codec reads them, whatever else the file holds."""

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from app.cli import main
from app.config.contradictions import LEAST_BASELINE
from app.config.settings import Settings
from app.drift.profile import make_profile
from app.feature import Feature
from app.models.process.worker import ModelWorker
from app.models.watch import profiling
from app.models.watch.profiling import DataRefused, Profiled, profile_model
from tests.models.support import NAMES, SavedModel, tiny_rows


@pytest.fixture
def profiled(saved: SavedModel, tmp_path: Path):
    """Makes the profile of a saved model from a file."""

    def profiled(data: Path) -> Profiled:
        settings = Settings(data_dir=tmp_path / "data", model_path=str(saved.directory), model_name="houses")
        return profile_model(settings, ModelWorker(settings), data)

    return profiled


FRAME = pd.DataFrame(tiny_rows(), columns=list(NAMES))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_other_columns_are_not_read(suffix: str, profiled, saved: SavedModel, tmp_path: Path) -> None:
    frame = FRAME.assign(price="high", age=FRAME["age"])[["price", "age", *NAMES[:2]]]
    path = tmp_path / f"rows{suffix}"
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    found = profiled(path)
    prediction = np.asarray(saved.booster.predict(tiny_rows()))
    assert found.own is None
    assert msgspec.structs.replace(found.made, prediction=()) == msgspec.structs.replace(
        make_profile(tuple(Feature(name=name) for name in NAMES), tiny_rows(), prediction, "profile"), prediction=()
    )
    np.testing.assert_allclose(found.made.prediction[0].edges, (prediction.min(), *found.made.prediction[0].edges[1:]))


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (FRAME[["income"]], "rooms is missing. age is missing."),
        (FRAME.assign(rooms="many"), "rooms"),
        (FRAME[:0], "It has no rows."),
    ],
)
def test_rows_of_another_model_are_refused(frame: pd.DataFrame, reason: str, profiled, tmp_path: Path) -> None:
    frame.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(DataRefused, match=reason):
        profiled(tmp_path / "rows.csv")


def test_a_reference_of_few_rows_is_written_with_a_warning(
    saved: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.csv"
    path.touch()
    for count, warns in ((LEAST_BASELINE, False), (LEAST_BASELINE - 1, True)):
        made = make_profile((Feature(name="a"),), np.ones((count, 1)), np.ones(count), "profile")
        monkeypatch.setattr(profiling, "profile_model", lambda *_, made=made: Profiled("ab" * 32, "1", None, made))
        environ = {"DATA_DIR": str(tmp_path / "data")}
        done = CliRunner().invoke(main, ["profile", str(saved.directory), "--data", str(path)], env=environ)
        assert done.exit_code == 0, done.output
        assert ("false alarms" in done.output) is warns
        assert f"1 feature of {count} rows, 1 output, " in done.output


def test_a_file_of_another_kind_is_bad_usage(saved: SavedModel, tmp_path: Path) -> None:
    (tmp_path / "rows.xlsx").touch()
    environ = {"DATA_DIR": str(tmp_path / "data")}
    done = CliRunner().invoke(
        main, ["profile", str(saved.directory), "--data", str(tmp_path / "rows.xlsx")], env=environ
    )
    assert done.exit_code == 2
    assert "ends in none of .csv, .parquet" in done.output
