"""The embedded registry of a fresh machine is created once, by whichever process comes first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.config.settings import Settings
from app.models.registry.embedded import BUNDLED, prepare_embedded_registry, read_provenance
from app.models.registry.mlflow import Registry
from app.models.registry.source import NothingToServe, RegistryUnreachable
from tests.models.support import Catalogue
from tests.support import ROOT

PREPARE = """
import pathlib, sys
from app.models.registry.embedded import prepare_embedded_registry
from app.config.settings import Settings
prepare_embedded_registry(Settings(data_dir=pathlib.Path(sys.argv[1])))
"""


def versions(settings: Settings) -> list[str]:
    return [str(version.version) for version in Catalogue(settings).client.search_model_versions()]


def test_a_fresh_machine_gets_the_bundled_model_once(registry_dir: Path, private_registry_dir: Path) -> None:
    settings = Settings(data_dir=registry_dir)  # which was set up by the first look of a keeper
    resolution = Registry(settings).look().candidates[0]
    assert (resolution.identity.version, resolution.identity.stage) == ("1", "Production")
    assert resolution.identity.aliases == ("champion",)
    provenance = read_provenance(BUNDLED)
    run = Catalogue(settings).client.get_run(resolution.identity.run_id or "")
    assert run.data.params == provenance.params
    assert run.data.metrics == provenance.metrics
    assert provenance.tags.items() <= run.data.tags.items()
    again = Settings(data_dir=private_registry_dir)
    prepare_embedded_registry(again)
    assert versions(again) == ["1"]


def test_a_champion_that_was_taken_away_stays_away(private_registry_dir: Path) -> None:
    settings = Settings(data_dir=private_registry_dir)
    Catalogue(settings).client.delete_model_version(settings.model_name, "1")
    prepare_embedded_registry(settings)
    assert Registry(settings).look().candidates == ()


def test_for_another_model_nothing_is_registered_in_a_directory_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "new" / "data", model_name="houses")
    prepare_embedded_registry(settings)
    assert settings.data_dir.stat().st_mode & 0o077 == 0
    assert versions(settings) == []
    with pytest.raises(NothingToServe, match="the registry knows no model 'houses'"):
        Registry(settings).look()


@pytest.mark.slow
def test_two_processes_at_once_register_one_version(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PREPARE, str(tmp_path / "data")],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        output, _ = process.communicate()
        assert process.returncode == 0, output
    assert versions(Settings(data_dir=tmp_path / "data")) == ["1"]


def test_a_data_directory_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(
        RegistryUnreachable, match="the embedded registry in DATA_DIR cannot be set up: FileExistsError"
    ):
        prepare_embedded_registry(Settings(data_dir=tmp_path / "data"))
