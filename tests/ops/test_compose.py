"""The folder for Docker Compose: what Compose itself and Prometheus say of it.

Nothing is started: images cannot be had here.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.ops.dashboard import UID
from app.ops.manifests.compose import compose, needed
from app.ops.manifests.files import write_files
from app.ops.manifests.plan import Plan
from tests.ops.deployments import EVERYTHING, encrypted, plan
from tests.support import ROOT

COMPOSE = Path(sys.executable).with_name("docker-compose")

PLANS = {
    "defaults": plan(),
    "everything": plan(EVERYTHING | {"MODEL_NAME": "a ${HOME} $b: 'c'"}, name="scores"),
    "encrypted": encrypted(client_ca="/home/me/ca.pem"),
    "without metrics": plan({"ENABLE_PROMETHEUS": "false"}),
}


def written(deployment: Plan, folder: Path) -> Path:
    """The folder, with the files that its owner adds."""
    write_files(compose(deployment), folder, deployment.name)
    for path in needed(deployment):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text("sesame")
    return folder


def read_by_compose(folder: Path) -> Any:
    """The project as Compose understands it, with variables replaced."""
    if not COMPOSE.exists():
        pytest.skip("docker-compose is not installed")
    done = subprocess.run(
        [str(COMPOSE), "config", "--format", "json"], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize("deployment", PLANS.values(), ids=PLANS)
def test_compose_takes_it(tmp_path: Path, deployment: Plan) -> None:
    folder = written(deployment, tmp_path / "folder")
    project = read_by_compose(folder)
    assert project["name"] == deployment.name
    metrics = {"prometheus", "grafana"} if deployment.settings.enable_prometheus else set()
    assert project["services"].keys() == {"madrone", "mlflow", "postgres"} | metrics
    assert project["volumes"].keys() == project["services"].keys()
    for service in project["services"].values():
        for mounted in (one for one in service["volumes"] if one["type"] == "bind"):
            assert Path(mounted["source"]).exists(), mounted
            assert mounted["read_only"]
    for secret in project["secrets"].values():
        assert Path(secret["file"]).is_file()


def test_every_service_has_few_rights_a_health_check_and_a_pinned_image() -> None:
    services = yaml.safe_load(compose(plan())["compose.yaml"])["services"]
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert int(service["user"].partition(":")[0]) > 0
        assert name == "madrone" or service["healthcheck"]["test"][0] == "CMD"
        assert re.fullmatch(r"([a-z]+/)?[a-z]+:v?[0-9.]+", service["image"]), service["image"]  # no registry's host
    published = {name: one["ports"] for name, one in services.items() if "ports" in one}
    assert published.pop("madrone") == ["8000:8000"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_the_service_gets_the_settings_and_asks_the_servers_of_the_project(tmp_path: Path) -> None:
    deployment = PLANS["everything"]
    project = read_by_compose(written(deployment, tmp_path / "folder"))
    service = project["services"]["madrone"]
    found = {name: value.replace("$$", "$") for name, value in service["environment"].items()}
    assert found == deployment.places | deployment.variables | {
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "ADMIN_API_KEY_FILE": "/run/secrets/madrone/ADMIN_API_KEY",
        "API_KEY_FILE": "/run/secrets/madrone/API_KEY",
        "DATABASE_URL_FILE": "/run/secrets/madrone/DATABASE_URL",
    }
    assert found["MODEL_NAME"] == "a ${HOME} $b: 'c'"
    assert [one["target"] for one in service["secrets"]] == [
        "/run/secrets/madrone/ADMIN_API_KEY", "/run/secrets/madrone/API_KEY", "/run/secrets/madrone/DATABASE_URL",
    ]  # fmt: skip
    assert needed(deployment) == ["secrets/ADMIN_API_KEY", "secrets/API_KEY"]
    assert {one["published"] for one in service["ports"]} == {"9000", "9002"}


def test_madrone_s_health_check_is_that_of_the_image() -> None:
    check = yaml.safe_load(compose(plan())["compose.yaml"])["services"]["madrone"]["healthcheck"]
    assert check == {"start_period": "300s"}
    assert "\nHEALTHCHECK " in (ROOT / "Containerfile").read_text()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
@pytest.mark.parametrize("name", ["defaults", "everything"])
def test_prometheus_takes_its_configuration(tmp_path: Path, name: str) -> None:
    folder = written(PLANS[name], tmp_path / "folder")
    done = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"], cwd=folder / "prometheus", capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    scraped = yaml.safe_load((folder / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    port = PLANS[name].settings.prometheus_port
    assert scraped == [{"job_name": "madrone", "static_configs": [{"targets": [f"madrone:{port}"]}]}]


def test_grafana_finds_the_dashboard_and_prometheus_where_they_are_mounted() -> None:
    files = compose(plan())
    mounts = dict(one.split(":")[:2] for one in yaml.safe_load(files["compose.yaml"])["services"]["grafana"]["volumes"])
    (provider,) = yaml.safe_load(files["grafana/provisioning/dashboards/madrone.yml"])["providers"]
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    assert json.loads(files["grafana/dashboards/madrone.json"])["uid"] == UID
    (source,) = yaml.safe_load(files["grafana/provisioning/datasources/prometheus.yml"])["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")


def test_passwords_are_random_and_in_files_that_only_their_owner_and_containers_reach(tmp_path: Path) -> None:
    first, second = (compose(PLANS["everything"]) for _ in range(2))
    assert all("sesame" not in text for text in first.values())
    passwords = [name for name in first if name.startswith("secrets/") and name != "secrets/.gitignore"]
    assert sorted(passwords) == ["secrets/DATABASE_URL", "secrets/GRAFANA_PASSWORD", "secrets/POSTGRES_PASSWORD"]
    for name in passwords:
        assert first[name] != second[name]
    assert first["secrets/POSTGRES_PASSWORD"] in first["secrets/DATABASE_URL"]
    write_files(first, tmp_path / "folder", "scores")
    assert (tmp_path / "folder" / "secrets").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "folder" / "secrets" / "POSTGRES_PASSWORD").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "folder" / "secrets" / ".gitignore").read_text() == "*\n"
