"""Versions selected by aliases and stages, and their files."""

import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from app.config.settings import Settings
from app.models.refusal import ModelRefused
from app.models.registry.mlflow import Registry
from app.models.registry.source import LookUp, ModelUnknown, NothingToServe, RegistryUnreachable, VersionUnknown
from tests.models.support import MODEL, Catalogue, SavedModel
from tests.support import ROOT, free_port


def change(database: Path, statement: str, *values: str) -> None:
    """Do to a registry's database what no client of MLflow can."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement, values)


def chosen(settings: Settings) -> tuple[str, str]:
    resolution = Registry(settings).look().candidates[0]
    assert resolution.identity.name == settings.model_name
    return resolution.identity.version, resolution.rule


def test_the_bundled_model_is_found_in_its_stage_with_its_run(registry_dir: Path) -> None:
    identity = Registry(Settings(data_dir=registry_dir)).look().candidates[0].identity
    assert (identity.version, identity.stage, identity.aliases) == ("1", "Production", ("champion",))
    assert identity.run_id


def test_an_alias_wins_over_every_stage(houses: Settings, catalogue: Catalogue, saved: SavedModel) -> None:
    catalogue.add(saved.directory, alias="blue")
    catalogue.add(saved.directory, stage="Production")
    settings = msgspec.structs.replace(houses, model_alias="blue")
    assert chosen(settings) == ("1", "alias blue")
    assert Registry(settings).look().candidates[0].identity.aliases == ("blue",)


def test_an_alias_may_name_an_archived_version(houses: Settings, catalogue: Catalogue, saved: SavedModel) -> None:
    catalogue.add(saved.directory, stage="Archived", alias="blue")
    catalogue.add(saved.directory, stage="Production")
    assert chosen(msgspec.structs.replace(houses, model_alias="blue")) == ("1", "alias blue")


def test_a_missing_alias_serves_nothing_and_names_those_that_exist(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    settings = msgspec.structs.replace(houses, model_alias="blue", model_canary_alias="green", model_fallback_any=True)
    assert Registry(settings).look().problem == (
        "model 'houses' has no version to serve (alias blue: empty; it has no alias)"
    )
    version = catalogue.add(saved.directory, stage="Production", alias="green")
    for number in range(11):
        catalogue.client.set_registered_model_alias(MODEL, f"other-{number:02}", version)
    offer = Registry(settings).look()
    assert offer.candidates == ()
    assert offer.look_ups == (LookUp("alias blue", "empty"),)
    assert offer.alias_missing is True
    named = ", ".join(("green", *(f"other-{number:02}" for number in range(9)), "2 more"))
    assert offer.problem == f"model 'houses' has no version to serve (alias blue: empty; aliases that exist: {named})"
    assert offer.canary is not None


def test_an_alias_whose_version_is_gone_or_still_comes_is_nothing_to_serve(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, stage="Production")
    pending = catalogue.add(saved.directory, alias="blue")
    registry = Registry(msgspec.structs.replace(houses, model_alias="blue"))
    database = houses.data_dir / "mlflow.db"
    change(database, "update model_versions set status = 'PENDING_REGISTRATION' where version = ?", pending)
    offer = registry.look()
    assert (offer.candidates, offer.alias_missing) == ((), False)
    assert offer.problem == "model 'houses' has no version to serve (alias blue: not ready)"
    # MLflow deletes the aliases of a version that it deletes; other registries leave them.
    change(database, "update registered_model_aliases set version = 7 where alias = ?", "blue")
    offer = registry.look()
    assert (offer.candidates, offer.alias_missing) == ((), True)
    assert offer.problem == (
        "model 'houses' has no version to serve "
        "(alias blue: empty, it names version '7', which is not there; aliases that exist: blue)"
    )


def test_a_version_that_is_named_and_not_there_is_told(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    pending = catalogue.add(saved.directory)
    change(houses.data_dir / "mlflow.db", "update model_versions set status = 'PENDING_REGISTRATION'")
    for path, problem in (
        ("models:/houses/9", "model 'houses' has no version 9"),
        (f"models:/houses/{pending}", f"model 'houses' has no version {pending} whose upload has ended"),
        ("models:/houses/latest", "model 'houses' has no version whose upload has ended"),
    ):
        settings = {"DATA_DIR": str(houses.data_dir), "MLFLOW_TRACKING_URI": houses.tracking_uri, "MODEL_PATH": path}
        assert Registry(Settings.from_environ(settings)).look().problem == problem


def test_an_alias_that_no_registry_should_give_is_not_repeated(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, alias="green")
    catalogue.add(saved.directory, alias="grey")
    change(houses.data_dir / "mlflow.db", "update registered_model_aliases set alias = ? where version = 1", "<b>\n")
    problem = Registry(msgspec.structs.replace(houses, model_alias="blue")).look().problem
    assert problem == "model 'houses' has no version to serve (alias blue: empty; aliases that exist: grey, 1 more)"


def test_every_alias_of_the_chosen_version_is_reported(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    version = catalogue.add(saved.directory, stage="Production", alias="green")
    catalogue.client.set_registered_model_alias(MODEL, "blue", version)
    assert Registry(houses).look().candidates[0].identity.aliases == ("blue", "green")


def test_the_stage_wins_over_newer_versions_of_other_stages(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    for stage in ("Production", "Staging", None):
        catalogue.add(saved.directory, stage)
    assert chosen(houses) == ("1", "stage Production")


def test_the_newest_version_of_a_stage_wins_by_number(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    for _ in range(10):
        catalogue.add(saved.directory, "Production")
    assert chosen(houses) == ("10", "stage Production")


def test_the_fallback_stage_follows_an_empty_stage(houses: Settings, catalogue: Catalogue, saved: SavedModel) -> None:
    catalogue.add(saved.directory, "Staging")
    catalogue.add(saved.directory)
    assert chosen(houses) == ("1", "fallback stage Staging")


def test_remaining_stages_follow_in_their_order_the_newest_version_first(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    settings = msgspec.structs.replace(
        houses, model_stage="Archived", model_fallback_stage="Archived", model_fallback_any=True
    )
    for stage in (None, None, "Production", "Production", "Staging", "Staging", "None"):
        catalogue.add(saved.directory, stage)
    for version, rule in (("6", "Staging"), ("5", "Staging"), ("4", "Production"), ("3", "Production")):
        assert chosen(settings) == (version, f"remaining stage {rule}")
        catalogue.client.delete_model_version(MODEL, version)
    assert chosen(settings) == ("7", "remaining stage None")
    catalogue.client.delete_model_version(MODEL, "7")
    assert chosen(settings) == ("2", "remaining stage None")


def test_archived_versions_alone_are_nothing_to_serve(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, "Archived")
    offer = Registry(msgspec.structs.replace(houses, model_fallback_any=True)).look()
    assert offer.candidates == ()
    tried = "stage Production: empty, fallback stage Staging: empty, remaining stage None: empty"
    assert offer.problem == f"model 'houses' has no version to serve ({tried})"


def test_a_version_of_another_stage_serves_only_when_asked_for(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory)
    offer = Registry(houses).look()
    assert (offer.candidates, offer.alias_missing) == ((), None)
    assert offer.look_ups == (LookUp("stage Production", "empty"), LookUp("fallback stage Staging", "empty"))
    assert offer.problem == (
        "model 'houses' has no version to serve (stage Production: empty, fallback stage Staging: empty; "
        "other stages have versions, which MODEL_ALIAS or MODEL_FALLBACK_ANY can ask for)"
    )
    assert chosen(msgspec.structs.replace(houses, model_fallback_any=True)) == ("1", "remaining stage None")


def test_rules_are_reported_up_to_the_first_with_a_version(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, "Staging")
    offer = Registry(houses).look()
    assert offer.problem is None
    assert offer.look_ups == (
        LookUp("stage Production", "empty"),
        LookUp("fallback stage Staging", "found", "1"),
    )


def test_a_version_whose_upload_has_not_ended_is_passed_over(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, "Production")
    pending = catalogue.add(saved.directory, "Staging")
    change(
        houses.data_dir / "mlflow.db",
        "update model_versions set status = 'PENDING_REGISTRATION' where version = ?",
        pending,
    )
    settings = msgspec.structs.replace(houses, model_stage="Staging", model_fallback_stage="Production")
    offer = Registry(settings).look()
    assert offer.look_ups[0] == LookUp("stage Staging", "not_ready")
    assert [candidate.identity.version for candidate in offer.candidates] == ["1"]
    with pytest.raises(VersionUnknown):
        Registry(houses).version(pending)


def test_all_candidates_are_offered_in_order_each_once(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    for stage, alias in ((None, None), ("Staging", None), ("Production", "blue"), ("Production", None), (None, None)):
        catalogue.add(saved.directory, stage, alias)
    offer = Registry(msgspec.structs.replace(houses, model_fallback_any=True)).look()
    assert [(candidate.identity.version, candidate.rule) for candidate in offer.candidates] == [
        ("4", "stage Production"),
        ("3", "stage Production"),
        ("2", "fallback stage Staging"),
        ("5", "remaining stage None"),
        ("1", "remaining stage None"),
    ]


def test_more_versions_than_fit_a_page_are_all_seen(houses: Settings, catalogue: Catalogue, saved: SavedModel) -> None:
    versions = [catalogue.add(saved.directory) for _ in range(3)]
    catalogue.move(versions[0], "Production")
    original = MlflowClient.search_model_versions
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            MlflowClient, "search_model_versions", lambda *args, **options: original(*args, max_results=1, **options)
        )
        assert chosen(houses) == ("1", "stage Production")


def test_canary_and_shadow_are_looked_up_by_their_aliases(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, "Production")
    canary = catalogue.add(saved.directory, alias="next")
    settings = msgspec.structs.replace(houses, model_canary_alias="next", model_shadow_alias="nobody's")
    offer = Registry(settings).look()
    assert offer.canary is not None
    assert (offer.canary.identity.version, offer.canary.rule) == (canary, "alias next")
    assert offer.shadow is None
    assert Registry(houses).look().canary is None


def test_one_version_is_found_by_its_number(houses: Settings, catalogue: Catalogue, saved: SavedModel) -> None:
    catalogue.add(saved.directory, "Archived")
    catalogue.add(saved.directory, "Production")
    candidate = Registry(houses).version("1")
    assert (candidate.identity.version, candidate.identity.stage) == ("1", "Archived")
    for number in ("3", "01", "", "1 or 1=1", "x"):
        with pytest.raises(VersionUnknown):
            Registry(houses).version(number)


def test_archived_is_served_where_it_is_asked_for(houses: Settings, catalogue: Catalogue, saved: SavedModel) -> None:
    catalogue.add(saved.directory, "Archived")
    assert chosen(msgspec.structs.replace(houses, model_stage="Archived")) == ("1", "stage Archived")


@pytest.mark.parametrize("name", ["unheard of", "it's", 'say "so"', "a' OR name LIKE '%"])
def test_an_unknown_model_is_nothing_to_serve(name: str, registry_dir: Path) -> None:
    with pytest.raises(ModelUnknown, match="the registry knows no model"):
        Registry(Settings(data_dir=registry_dir, model_name=name)).look()


@pytest.mark.parametrize("name", ["a/b", "a:b", ".."])
def test_a_name_that_mlflow_gives_to_no_model_is_no_fault_of_the_registry(name: str, registry_dir: Path) -> None:
    registry = Registry(Settings(data_dir=registry_dir, model_name=name))
    for ask in (registry.look, lambda: registry.version("1")):
        with pytest.raises(ModelUnknown, match="the registry takes no name of a model such as"):
            ask()


@pytest.mark.parametrize(
    "name", ["bob's houses", 'the "houses"', 'bob\'s "houses"', 'bob\'s "100%\\_"', "houses ", " a;--b"]
)
def test_a_name_is_looked_up_as_it_is(
    name: str, houses: Settings, catalogue: Catalogue, saved: SavedModel, tmp_path: Path
) -> None:
    for other in (name, name.replace("'", '"') + "s", name.replace("'", "x"), name.strip()):
        with contextlib.suppress(MlflowException):  # it may be there already, or be no name
            catalogue.client.create_registered_model(other)
    for registered in catalogue.client.search_registered_models():
        catalogue.client.create_model_version(registered.name, source=saved.directory.as_uri())
    version = catalogue.client.create_model_version(name, source=saved.directory.as_uri()).version
    settings = Settings.from_environ({"MODEL_NAME": name, "MODEL_STAGE": "None", "DATA_DIR": str(houses.data_dir)})
    registry = Registry(settings)
    offer = registry.look()
    assert [candidate.identity.version for candidate in offer.candidates] == [str(version), "1"]
    assert registry.fetch(offer.candidates[0].identity, tmp_path).directory.is_dir()


def test_a_password_with_an_at_sign_is_kept() -> None:
    registry = Registry(Settings(mlflow_tracking_uri=f"http://user:hush@secret@127.0.0.1:{free_port()}"))
    with pytest.raises(RegistryUnreachable) as caught:
        registry.look()
    assert "127.0.0.1" in str(caught.value.detail)
    assert "secret" not in str(caught.value.detail)
    assert "hush" not in str(caught.value.detail)


def test_fetched_files_are_a_copy(houses: Settings, catalogue: Catalogue, saved: SavedModel, tmp_path: Path) -> None:
    catalogue.add(saved.directory, "Production")
    registry = Registry(houses)
    before = {path.name: path.read_bytes() for path in saved.directory.iterdir()}
    (tmp_path / "fetched").mkdir()
    fetched = registry.fetch(registry.look().candidates[0].identity, tmp_path / "fetched").directory
    assert fetched.is_relative_to(tmp_path / "fetched")
    assert {path.name: path.read_bytes() for path in fetched.iterdir()} == before
    for path in fetched.iterdir():
        path.write_text("changed")
    assert {path.name: path.read_bytes() for path in saved.directory.iterdir()} == before


def test_a_pipe_or_a_socket_among_a_models_files_is_the_models_fault(
    houses: Settings, catalogue: Catalogue, saved: SavedModel, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(saved.directory, tmp_path / "model"))
    catalogue.add(directory, stage="Production")
    registry = Registry(houses)
    identity = registry.look().candidates[0].identity
    for number, make in enumerate((os.mkfifo, lambda path: os.mknod(path, stat.S_IFSOCK | 0o600))):
        odd = directory / f"odd-{number}"
        make(odd)
        with pytest.raises(ModelRefused, match=r"^its directory has something that is neither a file nor a directory$"):
            registry.fetch(identity, tmp_path / str(number))
        odd.unlink()


def test_a_version_that_is_gone_is_nothing_to_serve(
    houses: Settings, catalogue: Catalogue, saved: SavedModel, tmp_path: Path
) -> None:
    version = catalogue.add(saved.directory, "Production")
    registry = Registry(houses)
    identity = registry.look().candidates[0].identity
    catalogue.client.delete_model_version(MODEL, version)
    with pytest.raises(NothingToServe):
        registry.fetch(identity, tmp_path)


def test_files_that_are_gone_are_no_crash(houses: Settings, catalogue: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    catalogue.add(tmp_path / "source", "Production")
    (tmp_path / "source").rmdir()
    registry = Registry(houses)
    with pytest.raises((NothingToServe, RegistryUnreachable)):
        registry.fetch(registry.look().candidates[0].identity, tmp_path / "fetched")


def test_the_metrics_of_the_run_are_known(registry_dir: Path, tmp_path: Path) -> None:
    registry = Registry(Settings(data_dir=registry_dir))
    metrics = registry.fetch(registry.look().candidates[0].identity, tmp_path).metrics
    assert metrics is not None
    assert metrics["test_rmse"] > 0
    assert metrics["trees"] >= 1


@pytest.mark.parametrize("run_id", [None, "0" * 32, "no run id"])
def test_a_run_that_is_gone_has_no_metrics(run_id: str | None, registry_dir: Path, tmp_path: Path) -> None:
    registry = Registry(Settings(data_dir=registry_dir))
    identity = msgspec.structs.replace(registry.look().candidates[0].identity, run_id=run_id)
    assert registry.fetch(identity, tmp_path).metrics == {}


PREPARED = """
import sys
from app.models.registry.mlflow import Registry
from app.config.settings import Settings
prepared = []
for uri in ("http://127.0.0.1:1", "sqlite+pysqlite:///models.db"):
    Registry(Settings(mlflow_tracking_uri=uri)).prepare()
    prepared.append("sqlalchemy" in sys.modules)
print(prepared, "mlflow.store.model_registry.sqlalchemy_store" in sys.modules)
"""


@pytest.mark.slow
def test_database_libraries_are_imported_before_a_deadline_runs(tmp_path: Path) -> None:
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PREPARED]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[False,", "True]", "True"]
    assert list(tmp_path.iterdir()) == []  # and nothing is opened
