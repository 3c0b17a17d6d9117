"""The folder for Docker Compose: what the specification of Compose, Compose itself and Prometheus say of it.

Nothing is started: images cannot be had here.
"""

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from app.ops.dashboard import UID
from app.ops.manifests.compose import compose, needed
from app.ops.manifests.files import write_files
from app.ops.manifests.plan import Plan
from tests.ops.deployments import EVERYTHING, encrypted, plan
from tests.support import ROOT

SPECIFICATION = jsonschema.Draft202012Validator(
    json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
)

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


def project_of(deployment: Plan) -> Any:
    return yaml.safe_load(compose(deployment)["compose.yaml"])


@pytest.mark.parametrize("deployment", PLANS.values(), ids=PLANS)
def test_the_specification_of_compose_takes_it(tmp_path: Path, deployment: Plan) -> None:
    project, folder = project_of(deployment), written(deployment, tmp_path / "folder")
    SPECIFICATION.validate(project)
    assert project["name"] == deployment.name
    metrics = {"prometheus", "grafana"} if deployment.settings.enable_prometheus else set()
    assert project["services"].keys() == {"madrone", "mlflow", "postgres"} | metrics
    named = {volume.partition(":")[0] for one in project["services"].values() for volume in one["volumes"]}
    assert {name for name in named if not name.startswith("./")} == project["volumes"].keys()
    assert all((folder / name).exists() for name in named if name.startswith("./"))
    assert all((folder / secret["file"]).is_file() for secret in project["secrets"].values())
    used = {secret["source"] for one in project["services"].values() for secret in one.get("secrets", ())}
    assert used == project["secrets"].keys()
    assert {name for one in project["services"].values() for name in one["networks"]} == project["networks"].keys()


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not on PATH")
@pytest.mark.parametrize("deployment", PLANS.values(), ids=PLANS)
def test_compose_reads_it(tmp_path: Path, deployment: Plan) -> None:
    done = subprocess.run(
        ["docker-compose", "config", "--format", "json"], cwd=written(deployment, tmp_path / "folder"),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["services"].keys() == project_of(deployment)["services"].keys()


def test_the_specification_refuses_what_compose_would() -> None:
    broken = project_of(plan())
    broken["services"]["madrone"]["readonly"] = True
    with pytest.raises(jsonschema.ValidationError):
        SPECIFICATION.validate(broken)


def test_every_service_has_few_rights_a_health_check_and_a_pinned_image() -> None:
    services = project_of(plan())["services"]
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


def test_the_service_gets_the_settings_and_asks_the_servers_of_the_project() -> None:
    deployment = PLANS["everything"]
    service = project_of(deployment)["services"]["madrone"]
    assert all("$" not in value.replace("$$", "") for value in service["environment"].values())
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
    assert service["ports"] == ["9000:9000", "9002:9002"]


def test_madrone_s_health_check_is_that_of_the_image() -> None:
    check = project_of(plan())["services"]["madrone"]["healthcheck"]
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
