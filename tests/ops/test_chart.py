"""The Helm chart: what Helm itself says of it, and what it makes of it."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml

from app.config.environ import SECRETS
from app.config.settings import Settings
from app.ops.manifests.chart import chart
from app.ops.manifests.cluster import kubernetes
from app.ops.manifests.files import write_files
from app.ops.manifests.plan import Plan
from tests.ops.deployments import EVERYTHING, by_kind, encrypted, plan
from tests.ops.schemas import check

PLANS = {
    "defaults": plan(),
    "everything": plan(EVERYTHING, name="scores", replicas=3),
    "encrypted": encrypted({"API_KEY": "sesame"}),
    "without metrics": plan({"ENABLE_PROMETHEUS": "false"}),
    "odd text": plan({"MODEL_NAME": '{{ .Release.Name }} \x7f\u2028\u00e9\U0001f600"\\\n%s'}),
}

INFO = 1
"""Severity of a remark of `helm lint`; 2 is a warning."""

IN_TEMPLATES = {
    "API_HOST", "API_PORT", "API_TLS_CERT", "API_TLS_CLIENT_CA", "API_TLS_KEY", "API_UNIX_SOCKET",
    "API_UNIX_SOCKET_MODE", "API_WORKERS", "DATA_DIR", "ENABLE_PROMETHEUS", "GRPC_PORT", "PROMETHEUS_PORT",
    "SHUTDOWN_DELAY", "SHUTDOWN_GRACE",
}  # fmt: skip
"""Settings that the chart's user does not change."""

Rendered = Callable[..., dict[str, Any]]


@pytest.fixture
def rendered(tmp_path: Path) -> Rendered:
    """Objects that Helm makes of a deployment's chart, by their kinds."""

    def render(deployment: Plan, values: dict[str, Any] | None = None, release: str | None = None) -> dict[str, Any]:
        if not (tmp_path / "chart").exists():
            write_files(chart(deployment), tmp_path / "chart", deployment.name)
        with helm.Chart.load(str(tmp_path / "chart")) as loaded:
            loaded.validate_schema(loaded.merge_values(values or {}))
            texts = loaded.render(values or {}, name=release or deployment.name, namespace="prod")
        return by_kind("---\n".join(text for path, text in texts.items() if path.endswith(".yaml")))

    return render


@pytest.mark.parametrize("deployment", PLANS.values(), ids=PLANS)
def test_its_default_values_give_what_ops_kubernetes_prints(rendered: Rendered, deployment: Plan) -> None:
    assert rendered(deployment) == by_kind(kubernetes(deployment))


@pytest.mark.parametrize("deployment", PLANS.values(), ids=PLANS)
def test_helm_has_nothing_to_say_about_it(tmp_path: Path, deployment: Plan) -> None:
    write_files(chart(deployment), tmp_path / "chart", deployment.name)
    found = helm.lint(str(tmp_path / "chart"))
    assert found["errors"] == []
    assert [one for one in found["messages"] if one["severity"] > INFO] == []


def test_values_change_what_they_say(rendered: Rendered) -> None:
    found = rendered(
        plan(),
        {
            "image": "ours/madrone:2", "imagePullSecrets": [{"name": "registry"}],
            "replicas": 5, "autoscaling": False, "networkPolicy": False,
            "serviceMonitor": False,
            "env": {"MODEL_NAME": "1e5", "MODEL_ALIAS": "$(HOME)", "MAX_ROWS_IN_FLIGHT": "1000000"},
            "secret": {"name": "keys", "keys": ["API_KEY", "DATABASE_URL"]},
            "resources": {"limits": {"memory": "2Gi", "nvidia.com/gpu": 1}}, "podAnnotations": {"a": "true"},
            "serviceAccountAnnotations": {"role": "reader"}, "nodeSelector": {"gpu": "yes"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
        },
        release="other",
    )  # fmt: skip
    for document in found.values():
        check(document)
        assert document["metadata"]["name"] == "other"
    assert found.keys() == {"ServiceAccount", "Service", "Deployment", "PodDisruptionBudget"}
    assert found["ServiceAccount"]["metadata"]["annotations"] == {"role": "reader"}
    assert found["Deployment"]["spec"]["replicas"] == 5
    template = found["Deployment"]["spec"]["template"]
    assert template["metadata"]["annotations"] == {"a": "true"}
    assert template["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert template["spec"]["nodeSelector"] == {"gpu": "yes"}
    (container,) = template["spec"]["containers"]
    assert container["image"] == "ours/madrone:2"
    assert container["resources"]["limits"] == {"memory": "2Gi", "nvidia.com/gpu": 1}
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert variables.items() >= {"MODEL_NAME": "1e5", "MAX_ROWS_IN_FLIGHT": "1000000"}.items()
    assert variables["MODEL_ALIAS"] == "$$(HOME)"
    assert variables["DATABASE_URL_FILE"] == "/run/secrets/madrone/DATABASE_URL"
    assert template["spec"]["volumes"][-1]["secret"]["secretName"] == "keys"


@pytest.mark.parametrize(
    "values",
    [
        {"env": {"MODEL_NAMES_OF_OTHERS": "a"}},
        {"env": {"API_PORT": "9000"}},  # of the templates
        {"env": {"API_KEY": "sesame"}},  # a secret
        {"env": {"MAX_BATCH_SIZE": 1_000_000}},  # Helm would make 1e+06 of it
        {"secret": {"name": "keys", "keys": ["PASSWORD"]}},
        {"replicas": 0},
        {"replica": 3},
    ],
    ids=str,
)
def test_values_that_cannot_be_are_refused(rendered: Rendered, values: dict[str, Any]) -> None:
    with pytest.raises(helm.HelmError):
        rendered(plan(), values)


def test_no_secret_is_in_it() -> None:
    files = chart(PLANS["everything"])
    assert all("sesame" not in text for text in files.values())
    assert yaml.safe_load(files["values.yaml"])["secret"]["keys"] == [
        "ADMIN_API_KEY", "API_KEY", "DATABASE_URL", "MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI",
    ]  # fmt: skip


def test_every_setting_is_a_value_a_secret_or_part_of_the_templates() -> None:
    files = chart(plan())
    names = {name.upper() for name in Settings.__struct_fields__}
    env = yaml.safe_load(files["values.schema.json"])["properties"]["env"]["properties"]
    assert env.keys() <= names
    assert names - env.keys() == names & (IN_TEMPLATES | {name.upper() for name in SECRETS})


def test_the_notes_say_what_is_needed_before(tmp_path: Path) -> None:
    write_files(chart(PLANS["everything"]), tmp_path / "chart", "scores")
    with helm.Chart.load(str(tmp_path / "chart")) as loaded:
        notes = loaded.render({}, name="scores", namespace="prod")["scores/templates/NOTES.txt"]
    assert (
        "kubectl create secret generic scores --namespace prod --from-file=ADMIN_API_KEY --from-file=API_KEY" in notes
    )
    assert "http://localhost:9000/health" in notes


def test_helm_reads_an_archive_of_it(tmp_path: Path) -> None:
    output = tmp_path / "chart.tgz"
    write_files(chart(plan()), output, "madrone")
    with helm.Chart.load(str(output)) as loaded:
        assert loaded.name == "madrone"
    with tarfile.open(output) as archive:
        assert all(name.startswith("madrone/") for name in archive.getnames())
