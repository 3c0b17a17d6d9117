"""A ServingRuntime of KServe, by which Madrone serves models of MLflow's registry, and an InferenceService of it.

KServe's storage initializer copies a model's files once, when a pod starts, and knows no registry of MLflow
(kserve/kserve#3555). The InferenceService has no `storageUri`, so KServe starts none, and Madrone asks the registry: a
version that gets the alias is served without another pod.
"""

from app.ops.manifests.cluster import described, header
from app.ops.manifests.plan import Plan
from app.ops.manifests.pod import POD_SECURITY, container, volumes
from app.ops.manifests.text import Json, Quoted, written

CONTAINER = "kserve-container"
"""Name of the container that KServe sends requests to."""

FORMAT = "lightgbm"

BRACES = "{{`{{`}}"
"""What gives two braces in a template of Go, as which KServe reads the container."""

NO_STORAGE = "Without storageUri: Madrone asks the registry itself. Requests name a registered model."
MODE = "RawDeployment is what KServe since 0.16 calls Standard, and takes as well."

BUSY_PERCENT = 75
"""Share of the processor that a replica asked for, beyond which KServe adds replicas."""


def kserve(plan: Plan) -> str:
    """Both objects as YAML."""
    served = container(plan, CONTAINER, plan.ports)
    for variable in served["env"]:
        variable["value"] = Quoted(variable["value"].replace("{{", BRACES))
    runtime: Json = {
        "supportedModelFormats": [{"name": FORMAT}],
        "protocolVersions": ["v2"] if plan.settings.grpc_port is None else ["v2", "grpc-v2"],
        "containers": [served],
        "volumes": volumes(plan),
    }
    if plan.settings.enable_prometheus:
        scraped = {"port": str(plan.settings.prometheus_port), "path": "/metrics"}
        runtime["annotations"] = {f"prometheus.kserve.io/{name}": value for name, value in scraped.items()}
    predictor: Json = {
        "minReplicas": plan.replicas,
        "maxReplicas": plan.max_replicas,
        "scaleMetric": "cpu",
        "scaleTarget": BUSY_PERCENT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": plan.ending_s,
        "securityContext": POD_SECURITY,
        "model": {"modelFormat": {"name": FORMAT}, "protocolVersion": "v2", "runtime": plan.name},
    }
    service = described(plan, "serving.kserve.io/v1beta1", "InferenceService", {"spec": {"predictor": predictor}})
    service["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": "RawDeployment"}
    documents = [
        written(described(plan, "serving.kserve.io/v1alpha1", "ServingRuntime", {"spec": runtime})),
        written(service, [NO_STORAGE, MODE]),
    ]
    return "---\n".join([header(plan, "kserve"), *documents])
