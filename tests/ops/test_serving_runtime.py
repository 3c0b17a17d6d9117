"""The manifests for KServe: what the schemas of its custom resources say of them, and how they fit together."""

from typing import Any

import pytest

from app.ops.manifests.plan import Plan
from app.ops.manifests.serving_runtime import kserve
from tests.ops.deployments import EVERYTHING, by_kind, plan
from tests.ops.schemas import check

PLANS = {
    "defaults": plan(), "everything": plan(EVERYTHING, name="scores", namespace="ml"),
}  # fmt: skip


def documents(deployment: Plan) -> dict[str, Any]:
    return by_kind(kserve(deployment))


@pytest.mark.parametrize("deployment", PLANS.values(), ids=PLANS)
def test_their_schemas_take_them(deployment: Plan) -> None:
    found = documents(deployment)
    assert found.keys() == {"ServingRuntime", "InferenceService"}
    for document in found.values():
        check(document)
    # What of them is a pod's, Kubernetes judges.
    predictor = dict(found["InferenceService"]["spec"]["predictor"])
    for own in ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "model"):
        del predictor[own]
    runtime = found["ServingRuntime"]["spec"]
    pod = predictor | {name: runtime[name] for name in ("containers", "volumes")}
    check({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": pod})


def test_the_service_uses_the_runtime_and_no_storage_initializer() -> None:
    found = documents(PLANS["everything"])
    model = found["InferenceService"]["spec"]["predictor"]["model"]
    assert model["runtime"] == found["ServingRuntime"]["metadata"]["name"] == "scores"
    assert model["modelFormat"] in found["ServingRuntime"]["spec"]["supportedModelFormats"]
    assert model["protocolVersion"] in found["ServingRuntime"]["spec"]["protocolVersions"]
    assert "storageUri" not in model


def test_kserve_sends_requests_to_the_first_port_of_its_container() -> None:
    (container,) = documents(PLANS["everything"])["ServingRuntime"]["spec"]["containers"]
    assert container["name"] == "kserve-container"
    assert [one["containerPort"] for one in container["ports"]] == [9000, 9001, 9002]
    assert documents(PLANS["everything"])["ServingRuntime"]["spec"]["protocolVersions"] == ["v2", "grpc-v2"]
    assert documents(plan())["ServingRuntime"]["spec"]["protocolVersions"] == ["v2"]


def test_braces_in_a_setting_are_no_template_to_kserve() -> None:
    (container,) = documents(plan({"MODEL_NAME": "{{.Name}}"}))["ServingRuntime"]["spec"]["containers"]
    assert {one["name"]: one["value"] for one in container["env"]}["MODEL_NAME"] == "{{`{{`}}.Name}}"


def test_no_secret_is_in_them() -> None:
    assert "sesame" not in kserve(PLANS["everything"])
