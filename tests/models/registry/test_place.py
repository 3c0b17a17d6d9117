"""A model at a path: which version it is, when a change is taken, and what is no model."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from app.config.settings import Settings
from app.models.artifact import read_artifact
from app.models.registry import place as place_module
from app.models.registry import snapshot
from app.models.registry.place import Place
from app.models.registry.source import Candidate, PlaceUnreachable, VersionUnknown
from tests.models.keeping import Kept, keep
from tests.models.support import Catalogue, SavedModel, altered, tiny_booster, tiny_rows


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a test has just written count as settled."""
    monkeypatch.setattr(place_module, "SETTLED_S", -3600.0)


def at(path: Path | str, **changes: object) -> Place:
    settings = msgspec.structs.replace(Settings(model_path=str(path), model_name="houses"), **changes)
    assert settings.place is not None
    return Place(settings, settings.place)


def found(place: Place) -> Candidate:
    (candidate,) = place.look().candidates
    return candidate


def sha256sum(command: str, directory: Path) -> str:
    return subprocess.run(
        ["bash", "-c", command], cwd=directory, check=True, capture_output=True, text=True
    ).stdout[:12]  # fmt: skip


def text(number: float) -> str:
    return tiny_booster(tiny_rows()[:, 0] * number).model_to_string()


def test_the_version_of_a_file_is_the_start_of_its_digest(tmp_path: Path) -> None:
    (tmp_path / "houses.txt").write_text(text(1))
    candidate = found(at(tmp_path / "houses.txt"))
    assert (candidate.identity.name, candidate.rule) == ("houses", "MODEL_PATH")
    assert candidate.identity.version == sha256sum("sha256sum houses.txt", tmp_path)


def test_the_version_of_a_directory_is_that_of_all_its_files(saved: SavedModel, tmp_path: Path) -> None:
    directory = altered(saved.directory, tmp_path / "model")
    (directory / "deep").mkdir()
    (directory / "deep" / "naïve name").write_text("x")
    version = found(at(directory)).identity.version
    assert version == sha256sum("find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum", directory)
    (directory / "deep" / "naïve name").write_text("y")
    assert found(at(directory)).identity.version != version


def test_a_file_and_a_directory_are_fetched_as_models(saved: SavedModel, tmp_path: Path) -> None:
    (tmp_path / "houses.txt").write_text(saved.booster.model_to_string())
    for path in (tmp_path / "houses.txt", saved.directory, saved.directory / "model.lgb"):
        place = at(path)
        destination = tmp_path / f"to-{path.name}"
        destination.mkdir()
        fetched = place.fetch(found(place).identity, destination)
        assert (fetched.metrics, fetched.digest) == ({}, None)
        rows = tiny_rows()
        outputs = read_artifact(fetched.directory).engine().evaluate(rows).prediction
        assert outputs.tolist() == saved.booster.predict(rows).tolist()  # pyright: ignore[reportAttributeAccessIssue]


def test_a_volume_of_kubernetes_is_served(saved: SavedModel, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    altered(saved.directory, volume / "..2026_11_29")
    (volume / "..data").symlink_to("..2026_11_29")
    for name in os.listdir(saved.directory):
        (volume / name).symlink_to(f"..data/{name}")
    place = at(volume)
    assert found(place).identity.version == found(at(volume / "..2026_11_29")).identity.version
    (tmp_path / "to").mkdir()
    fetched = place.fetch(found(place).identity, tmp_path / "to")
    assert not any(path.is_symlink() for path in fetched.directory.iterdir())
    assert read_artifact(fetched.directory).digest == read_artifact(volume / "..2026_11_29").digest


def test_what_is_no_model_is_said(saved: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def problem(path: Path, **changes: object) -> str | None:
        offer = at(path, **changes).look()
        assert offer.candidates == ()
        assert str(path) not in str(offer.problem)
        return offer.problem

    os.mkfifo(tmp_path / "pipe")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert problem(tmp_path / "nothing") == "MODEL_PATH: there is no file or directory at that path"
    assert problem(tmp_path / "pipe") == "MODEL_PATH: that path is neither a file nor a directory"
    assert problem(empty) == "MODEL_PATH: that directory has no MLmodel file, and is not a text of LightGBM"
    assert problem(saved.directory, model_max_bytes=1024) == (
        "MODEL_PATH: its files have more than MODEL_MAX_BYTES = 1024 bytes"
    )
    leading_out = altered(saved.directory, tmp_path / "leading-out")
    (leading_out / "passwd").symlink_to("/etc/passwd")
    assert problem(leading_out) == "MODEL_PATH: that directory has a link that leads out of it"
    piped = altered(saved.directory, tmp_path / "piped")
    os.mkfifo(piped / "pipe")
    assert problem(piped) == ("MODEL_PATH: that directory has something that is neither a file nor a directory")
    monkeypatch.setattr(snapshot, "MAX_FILES", 2)
    assert problem(saved.directory) == "MODEL_PATH: that directory has more than 2 files"


def test_files_that_are_being_changed_are_left_until_they_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "houses.txt"
    monkeypatch.setattr(place_module, "SETTLED_S", 1.0)
    pauses: list[float] = []

    def grows(seconds: float) -> None:
        pauses.append(seconds)
        with path.open("a") as file:
            file.write("more")

    path.write_text("tree")
    monkeypatch.setattr(place_module.time, "sleep", grows)
    with pytest.raises(PlaceUnreachable, match=r"^the files at MODEL_PATH are being changed$"):
        at(path, model_lookup_timeout=0.1).look()
    assert pauses
    monkeypatch.setattr(place_module.time, "sleep", pauses.append)
    before = len(pauses)
    assert found(at(path)).identity.version == sha256sum("sha256sum houses.txt", tmp_path)
    assert len(pauses) == before + 1  # a second look at files written just now


def test_files_that_change_between_look_and_copy_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "houses.txt"
    path.write_text(text(1))
    place = at(path)
    identity = found(place).identity
    path.write_text(text(2))
    (tmp_path / "to").mkdir()
    with pytest.raises(PlaceUnreachable, match=r"^its files changed while they were read$"):
        place.fetch(identity, tmp_path / "to")


def test_only_the_version_at_the_path_can_be_pinned(tmp_path: Path) -> None:
    path = tmp_path / "houses.txt"
    path.write_text(text(1))
    place = at(path)
    version = found(place).identity.version
    assert place.version(version).identity.version == version
    with pytest.raises(VersionUnknown, match=r"^MODEL_PATH does not hold version '3' now$"):
        place.version("3")


@pytest.fixture
def kept_file(registry_dir: Path, tmp_path: Path) -> Iterator[tuple[Kept, Path]]:
    """A keeper of a file that holds a booster's text."""
    path = tmp_path / "houses.txt"
    path.write_text(text(1))
    kept = keep(Settings(data_dir=tmp_path / "data", model_path=str(path), model_name="houses"))
    yield kept, path
    kept.keeper.close()


def test_a_changed_file_is_swapped_in_and_a_bad_one_is_refused(kept_file: tuple[Kept, Path]) -> None:
    kept, path = kept_file

    def look() -> tuple[str, str | None]:
        refresh = asyncio.run(kept.keeper.refresh())
        return refresh.outcome, refresh.reason

    def served() -> str:
        assert kept.slot.current is not None
        return kept.slot.current.identity.version

    assert look() == ("swapped", None)
    first = served()
    assert look() == ("unchanged", None)
    os.utime(path)
    assert look() == ("unchanged", None)
    whole = text(2)
    path.write_text(whole[: whole.index("end of trees") - 10])
    outcome, reason = look()
    assert (outcome, served()) == ("refused", first)
    assert "is cut or damaged at tree 2 of 3" in str(reason)
    path.write_text(whole)
    assert look() == ("swapped", None)
    assert served() != first
    assert kept.served_versions() == [
        {"model_name": "houses", "model_version": served(), "model_stage": "", "run_id": "",
         "digest": kept.slot.current.artifact.digest if kept.slot.current else ""}
    ]  # fmt: skip
    path.unlink()
    assert look() == ("nothing_to_serve", "MODEL_PATH: there is no file or directory at that path")
    again = keep(Settings(data_dir=path.parent / "data", model_path=str(path), model_name="houses"))
    again.refresher.start()
    assert again.slot.current is not None
    assert again.slot.current.identity.version == served()  # the last known good, of a file that is gone
    again.keeper.close()
    assert not (path.parent / "data" / "mlflow.db").exists()


def test_a_run_and_a_registered_version_are_served_by_address(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    run = catalogue.client.create_run("0")
    run_id = str(run.info.run_id)
    catalogue.client.log_metric(run_id, "test_r2", 0.75)
    catalogue.client.log_artifacts(run_id, str(saved.directory), "model")
    first, second = catalogue.add(saved.directory), catalogue.add(saved.directory)
    for path, version, metrics in (
        (f"runs:/{run_id}/model", run_id[:12], {"test_r2": 0.75}),
        (f"models:/houses/{first}", first, {}),
        ("models:/houses/latest", second, {}),
    ):
        settings = Settings.from_environ(
            {"DATA_DIR": str(houses.data_dir), "MLFLOW_TRACKING_URI": houses.tracking_uri, "MODEL_PATH": path}
        )
        kept = keep(settings)
        assert asyncio.run(kept.keeper.refresh()).outcome == "swapped", path
        assert kept.slot.current is not None
        assert (kept.slot.current.identity.version, kept.slot.current.metrics) == (version, metrics)
        assert asyncio.run(kept.keeper.refresh()).outcome == "unchanged"
        again = keep(settings)
        again.refresher.start()
        assert again.slot.current is not None, path
        for one in (kept, again):
            one.keeper.close()
    gone = Settings(mlflow_tracking_uri=houses.tracking_uri, model_path="runs:/0123456789abcdef/model")
    kept = keep(msgspec.structs.replace(gone, data_dir=houses.data_dir / "other"))
    refresh = asyncio.run(kept.keeper.refresh())
    assert (refresh.outcome, refresh.reason) == ("nothing_to_serve", "MODEL_PATH: there is nothing at that address")
    kept.keeper.close()
