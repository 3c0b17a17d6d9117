"""The objects of a deployment in Kubernetes."""

from app import __version__
from app.ops.manifests.plan import Plan, labels
from app.ops.manifests.pod import POD_SECURITY, container, volumes
from app.ops.manifests.scaling import adapter_rule, autoscaler, disruption_budget
from app.ops.manifests.text import Json, written
from app.ops.service_monitor import scraping

ZONES = ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
"""Labels of nodes over whose values replicas are spread."""

DNS = 53

READY_WITHIN_S = 900
"""Seconds in which a new replica has to be ready before a rollout counts as failed."""

COMMENTS: dict[str, tuple[str, ...]] = {
    "networkpolicy": (
        "Requests from everywhere, scrapes from the cluster. The service asks name servers, and the ports of the",
        "registry, the store of models' files and the database, wherever they are.",
    ),
    "servicemonitor": ("Needs the operator of Prometheus; leave it out without.",),
}
"""What has to be said about an object, by its name in `objects`."""


def objects(plan: Plan) -> dict[str, Json]:
    """The objects by the names of their kinds, in the order in which they are needed."""
    found = {
        "serviceaccount": described(plan, "v1", "ServiceAccount", {"automountServiceAccountToken": False}),
        "service": described(plan, "v1", "Service", {"spec": _service(plan)}),
        "networkpolicy": described(plan, "networking.k8s.io/v1", "NetworkPolicy", {"spec": _network_policy(plan)}),
        "deployment": described(plan, "apps/v1", "Deployment", {"spec": _deployment(plan)}),
        "poddisruptionbudget": described(plan, "policy/v1", "PodDisruptionBudget", {"spec": disruption_budget(plan)}),
    }
    if plan.settings.enable_prometheus:
        found["horizontalpodautoscaler"] = described(
            plan, "autoscaling/v2", "HorizontalPodAutoscaler", {"spec": autoscaler(plan)}
        )
        found["servicemonitor"] = described(
            plan, "monitoring.coreos.com/v1", "ServiceMonitor", {"spec": scraping(plan.settings, labels(plan.name))}
        )
    else:  # nothing tells how many there should be
        found["deployment"]["spec"] = {"replicas": plan.replicas, **found["deployment"]["spec"]}
    return found


def kubernetes(plan: Plan) -> str:
    """All objects as YAML, for `kubectl apply`."""
    scaler = [
        "Scales by requests in flight, which the Prometheus adapter gives it by this rule, in the values of its chart:",
        *adapter_rule(plan).splitlines(),
    ]
    comments = COMMENTS | {"horizontalpodautoscaler": tuple(scaler)}
    documents = [written(document, comments.get(name, ())) for name, document in objects(plan).items()]
    return "---\n".join([header(plan, "kubernetes"), *documents])


def described(plan: Plan, version: str, kind: str, more: Json) -> Json:
    """An object with the name, the namespace and the labels of the deployment."""
    metadata: Json = {"name": plan.name}
    if plan.namespace is not None:
        metadata["namespace"] = plan.namespace
    return {"apiVersion": version, "kind": kind, "metadata": {**metadata, "labels": labels(plan.name)}, **more}


def header(plan: Plan, command: str) -> str:
    """Comments on all of a manifest: what made it, and what is needed before."""
    return made_by(command) + "".join(f"# {line}\n" for line in before(plan))


def made_by(command: str) -> str:
    """The first line of a manifest, a comment."""
    return f"# Made by `madrone ops {command}`, Madrone {__version__}.\n"


def before(plan: Plan) -> list[str]:
    """What has to be done before a manifest is applied, and what to know of it."""
    lines = list(plan.notes)
    into = f" --namespace {plan.namespace}" if plan.namespace else ""
    if plan.secrets:
        files = " ".join(f"--from-file={name}" for name in plan.secrets)
        lines.append("The secrets, each from a file of its name:")
        lines.append(f"  kubectl create secret generic {plan.name}{into} {files}")
    if plan.tls:
        files = " ".join(f"--from-file={name}" for name in plan.tls_files)
        lines.append("The certificate and what belongs to it, likewise, or as cert-manager keeps them:")
        lines.append(f"  kubectl create secret generic {plan.name}-tls{into} {files}")
    return lines


def _service(plan: Plan) -> Json:
    protocols = {"http": "https" if plan.tls else "http", "metrics": "http", "grpc": "kubernetes.io/h2c"}
    return {
        "selector": labels(plan.name),
        "ports": [
            {"name": name, "port": port, "targetPort": name, "protocol": "TCP", "appProtocol": protocols[name]}
            for name, port in plan.ports.items()
        ],
    }


def _deployment(plan: Plan) -> Json:
    return {
        "selector": {"matchLabels": labels(plan.name)},
        "progressDeadlineSeconds": READY_WITHIN_S,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {"labels": labels(plan.name)},
            "spec": {
                "serviceAccountName": plan.name,
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,  # a Service named `api` would set API_PORT
                "terminationGracePeriodSeconds": plan.ending_s,
                "securityContext": POD_SECURITY,
                "topologySpreadConstraints": [
                    {
                        "maxSkew": 1,
                        "topologyKey": zone,
                        "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": {"matchLabels": labels(plan.name)},
                    }
                    for zone in ZONES
                ],
                "containers": [container(plan, "madrone", plan.ports)],
                "volumes": volumes(plan),
            },
        },
    }


def _network_policy(plan: Plan) -> Json:
    ingress: list[Json] = [{"ports": [_port(port) for name, port in plan.ports.items() if name != "metrics"]}]
    if "metrics" in plan.ports:
        ingress.append({"from": [{"namespaceSelector": {}}], "ports": [_port(plan.ports["metrics"])]})
    egress: list[Json] = [{"ports": [_port(DNS, "UDP"), _port(DNS)]}]
    if plan.ports_asked:
        egress.append({"ports": [_port(port) for port in plan.ports_asked]})
    return {
        "podSelector": {"matchLabels": labels(plan.name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
        "egress": egress,
    }


def _port(number: int, protocol: str = "TCP") -> Json:
    return {"protocol": protocol, "port": number}
