"""The manifests for Kubernetes: what its own schemas say of them, and whether they fit the settings and the service."""

import re
from typing import Any

import helm_python as helm
import jsonschema
import kubernetes_validate
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from app.config.environ import FILE
from app.config.settings import Settings
from app.ops.manifests.cluster import kubernetes
from app.ops.manifests.plan import FURTHER_MODEL_MIB, HOME, Plan
from app.ops.manifests.scaling import TARGET, adapter_rule
from app.ops.manifests.text import Quoted, written
from app.routes.health import HealthController
from tests.ops.deployments import EVERYTHING, by_kind, encrypted, plan
from tests.ops.schemas import NEWEST, OLDEST, check
from tests.support import ROOT

PLANS = {"defaults": plan(), "everything": plan(EVERYTHING, name="scores", namespace="ml", replicas=3)}
ENCRYPTED = encrypted({"API_KEY": "sesame"})


def documents(deployment: Plan) -> dict[str, Any]:
    """The objects by their kinds."""
    return by_kind(kubernetes(deployment))


def container(deployment: Plan) -> dict[str, Any]:
    (found,) = documents(deployment)["Deployment"]["spec"]["template"]["spec"]["containers"]
    return found


def environment(deployment: Plan) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container(deployment)["env"]}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("deployment", [*PLANS.values(), ENCRYPTED], ids=[*PLANS, "encrypted"])
def test_their_schemas_take_them(deployment: Plan, version: str) -> None:
    found = documents(deployment)
    assert len(found) == 7
    for document in found.values():
        check(document, version)


@pytest.mark.parametrize("kind", ["Deployment", "ServiceMonitor"])
def test_their_schemas_refuse_what_the_api_server_would(kind: str) -> None:
    broken = documents(plan())[kind]
    broken["spec"]["selectors"] = {}
    with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError)):
        check(broken)


def test_the_container_gets_the_settings_that_differ_from_their_defaults() -> None:
    assert environment(plan()) == {"DATA_DIR": str(HOME / "data")}
    same = {"API_PORT": "8000", "API_HOST": "127.0.0.1", "DATA_DIR": "/home/me", "LOG_LEVEL": "INFO", "MODEL_ALIAS": ""}
    assert environment(plan(same)) == {"DATA_DIR": str(HOME / "data")}
    found = environment(PLANS["everything"])
    assert {name: found[name] for name in ("MODEL_NAME", "MODEL_ALIAS", "DRIFT", "CORS_ORIGINS", "GRPC_PORT")} == {
        name: EVERYTHING[name] for name in ("MODEL_NAME", "MODEL_ALIAS", "DRIFT", "CORS_ORIGINS", "GRPC_PORT")
    }
    addressed = environment(plan({"MODEL_PATH": "models:/risk@champion", "MLFLOW_TRACKING_URI": "http://mlflow"}))
    assert addressed["MODEL_PATH"] == "models:/risk@champion"
    assert addressed.keys().isdisjoint({"MODEL_NAME", "MODEL_ALIAS"})  # it may not be set beside MODEL_PATH


def test_a_dollar_in_a_setting_names_no_variable_in_kubernetes() -> None:
    for text, said in (("$(DATA_DIR)", "$$(DATA_DIR)"), ("a$$b", "a$$$$b"), ("$x", "$$x")):
        assert environment(plan({"MODEL_NAME": text}))["MODEL_NAME"] == said


def test_the_settings_in_the_container_are_those_of_the_environment(tmp_path: Any) -> None:
    """As the service there reads them, with the secrets in files."""
    found = environment(PLANS["everything"])
    for name in [name for name in found if name.endswith(FILE)]:
        secret = tmp_path / name
        secret.write_text(EVERYTHING[name.removesuffix(FILE)])
        found[name] = str(secret)
    inside, outside = Settings.from_environ(found), PLANS["everything"].settings
    differing = {name for name in Settings.__struct_fields__ if getattr(inside, name) != getattr(outside, name)}
    assert differing == {"data_dir"}


def test_no_secret_is_in_them() -> None:
    text = kubernetes(PLANS["everything"])
    assert "sesame" not in text
    assert ".example" not in text.replace("https://a.example", "").replace("https://b.example", "")
    secrets = ("ADMIN_API_KEY", "API_KEY", "DATABASE_URL", "MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI")
    assert f"kubectl create secret generic scores --namespace ml --from-file={' --from-file='.join(secrets)}" in text
    spec = documents(PLANS["everything"])["Deployment"]["spec"]["template"]["spec"]
    (volume,) = (one["secret"] for one in spec["volumes"] if one["name"] == "secrets")
    assert volume["secretName"] == "scores"
    assert [item["key"] for item in volume["items"]] == list(secrets)


@given(st.text(max_size=50))
def test_any_text_of_a_setting_is_read_as_it_was_in_python_and_in_go(text: str) -> None:
    manifest = written({"value": Quoted(text)})
    assert yaml.safe_load(manifest) == helm.values_from_yaml(manifest) == {"value": text}


def test_probes_ask_routes_that_exist() -> None:
    paths = {HealthController.path + path for path in (*HealthController.live.paths, *HealthController.ready.paths)}
    probes = {name: one["httpGet"] for name, one in container(plan()).items() if name.endswith("Probe")}
    assert {name: one["path"] for name, one in probes.items()} == {
        "startupProbe": "/health/live", "livenessProbe": "/health/live", "readinessProbe": "/health/ready",
    }  # fmt: skip
    assert {one["path"] for one in probes.values()} <= paths
    assert {one["scheme"] for one in probes.values()} == {"HTTP"}


def test_probes_speak_tls_where_the_api_does_and_the_certificate_is_mounted() -> None:
    inside = container(ENCRYPTED)
    assert {one["httpGet"]["scheme"] for name, one in inside.items() if name.endswith("Probe")} == {"HTTPS"}
    assert environment(ENCRYPTED).items() >= {
        "API_TLS_CERT": "/run/secrets/tls/tls.crt", "API_TLS_KEY": "/run/secrets/tls/tls.key"
    }.items()  # fmt: skip
    assert [one["mountPath"] for one in inside["volumeMounts"]][2:] == ["/run/secrets/tls", "/run/secrets/madrone"]
    spec = documents(ENCRYPTED)["Deployment"]["spec"]["template"]["spec"]
    assert [one["secret"]["secretName"] for one in spec["volumes"][2:]] == ["madrone-tls", "madrone"]
    assert "kubectl create secret generic madrone-tls --from-file=tls.crt --from-file=tls.key\n" in kubernetes(
        ENCRYPTED
    )
    assert "/home/me" not in kubernetes(ENCRYPTED)


def test_probes_need_no_certificate_where_clients_do() -> None:
    deployment = encrypted(client_ca="/home/me/ca.pem")
    inside = container(deployment)
    assert {"tcpSocket": {"port": "http"}}.items() <= inside["livenessProbe"].items()
    assert {"tcpSocket": {"port": "http"}}.items() <= inside["startupProbe"].items()
    assert inside["readinessProbe"]["exec"]["command"] == ["python", "-m", "app.probe"]
    assert environment(deployment)["API_TLS_CLIENT_CA"] == "/run/secrets/tls/ca.crt"
    check(documents(deployment)["Deployment"])
    assert "--from-file=tls.key --from-file=ca.crt\n" in kubernetes(deployment)


def test_a_pod_that_ends_has_time_for_what_the_settings_allow() -> None:
    spec = documents(PLANS["everything"])["Deployment"]["spec"]["template"]["spec"]
    assert container(PLANS["everything"])["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
    assert spec["terminationGracePeriodSeconds"] > 5 + 2.5 + 40


def test_ports_are_those_of_the_settings() -> None:
    found = documents(PLANS["everything"])
    ports = {"http": 9000, "metrics": 9001, "grpc": 9002}
    assert {one["name"]: one["port"] for one in found["Service"]["spec"]["ports"]} == ports
    assert {one["name"]: one["containerPort"] for one in container(PLANS["everything"])["ports"]} == ports
    assert found["ServiceMonitor"]["spec"]["endpoints"][0]["targetPort"] == 9001
    callers, scrapers = found["NetworkPolicy"]["spec"]["ingress"]
    assert [one["port"] for one in callers["ports"]] == [9000, 9002]
    assert [one["port"] for one in scrapers["ports"]] == [9001]


def test_the_network_policy_lets_the_service_ask_its_servers_only() -> None:
    _, asked = documents(PLANS["everything"])["NetworkPolicy"]["spec"]["egress"]
    assert [one["port"] for one in asked["ports"]] == [443, 4444, 5432, 5555]
    assert len(documents(plan())["NetworkPolicy"]["spec"]["egress"]) == 1  # name servers


def test_without_metrics_nothing_scales_or_scrapes() -> None:
    found = documents(plan({"ENABLE_PROMETHEUS": "false"}, replicas=3))
    assert found.keys().isdisjoint({"HorizontalPodAutoscaler", "ServiceMonitor"})
    assert found["Deployment"]["spec"]["replicas"] == 3
    assert [one["name"] for one in found["Service"]["spec"]["ports"]] == ["http"]
    assert "replicas" not in documents(plan())["Deployment"]["spec"]  # which the autoscaler sets


def test_the_autoscaler_asks_for_the_metric_that_the_adapter_s_rule_gives() -> None:
    for deployment, name in zip(PLANS.values(), ("requests_in_flight", "ours_requests_in_flight"), strict=True):
        scaler = documents(deployment)["HorizontalPodAutoscaler"]["spec"]
        assert scaler["metrics"][0]["pods"]["metric"]["name"] == name
        (rule,) = yaml.safe_load(adapter_rule(deployment))["rules"]["custom"]
        assert rule["seriesQuery"] == f'{name}{{namespace!="",pod!=""}}'
        assert "".join(f"# {line}\n" for line in adapter_rule(deployment).splitlines()) in kubernetes(deployment)
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 8)


@pytest.mark.parametrize(
    ("environ", "note"),
    [
        ({}, "each replica serves the bundled model"),
        ({"MODEL_PATH": "/models/risk.txt"}, "put it into the image"),
        ({"PREDICTION_LOG": "durable"}, "put a volume that stays there"),
        ({}, "DATABASE_URL is not set"),
        ({"API_PORT": "1023"}, "A port is below 1024"),
        ({"MODEL_ARTIFACT_ROOT": "/mlruns"}, "mount its volume there"),
    ],
)
def test_what_an_operator_has_to_know_is_said_at_the_top(environ: dict[str, str], note: str) -> None:
    top = kubernetes(plan(environ)).partition("\n---\n")[0]
    assert note in top
    assert all(line.startswith("# ") for line in top.splitlines())
    assert note not in kubernetes(PLANS["everything"])


def test_resources_grow_with_the_workers() -> None:
    class Several(Settings, frozen=True, kw_only=True):
        api_workers: int = 1

    found = [container(Plan(settings=Several(api_workers=count), environ={}))["resources"] for count in (1, 2, 4)]
    assert [one["requests"]["cpu"] for one in found] == ["1", "2", "4"]
    assert [one["limits"]["memory"] for one in found] == ["1024Mi", "1536Mi", "2048Mi"]
    assert all(one["limits"]["memory"] == one["requests"]["memory"] for one in found)


def test_memory_grows_with_the_models_in_each_worker() -> None:
    names = ",".join(f"model-{number}" for number in range(20))
    found = [plan({"MODEL_NAMES": names, "API_WORKERS": workers}) for workers in ("1", "2")]
    assert [plan({"MODEL_NAMES": "one"}).memory_mib, *(one.memory_mib for one in found)] == [1024, 1536, 2304]
    for one in found:
        manifest = kubernetes(one)
        assert f"memory: {one.memory_mib}Mi" in manifest
        assert f"# The memory has {FURTHER_MODEL_MIB} MiB for each of 19 further models" in manifest
        assert f"{one.memory_mib:,} MiB" in (ROOT / "app" / "ops" / "README.md").read_text()


def test_the_readme_shows_what_is_printed() -> None:
    text = (ROOT / "app" / "ops" / "README.md").read_text()
    (shown,) = re.findall(r"^\$ madrone ops kubernetes --replicas 3\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    environ = {"MODEL_NAME": "risk", "MODEL_ALIAS": "champion", "MLFLOW_TRACKING_URI": "https://a", "API_KEY": "b"}
    printed = kubernetes(plan(environ, replicas=3))
    top, variables, _ = shown.split("…\n")
    assert printed.startswith(top)
    assert variables in printed
    for figure in (f"{plan().memory_mib:,} MiB", f"{TARGET} requests in flight"):
        assert figure in text
