"""The container of the service and its volumes, as pods of a Deployment and of KServe have them."""

from app.ops.manifests.plan import HOME, PRESTOP_S, SECRETS_AT, TLS_AT, Plan
from app.ops.manifests.text import Json, Quoted

USER = 10001
"""User and group of the image."""

CPU = 1
"""Cores of a worker: one row costs its event loop 0.2 ms of a core, and the first start compiles with one core."""

LIVE, READY = "/health/live", "/health/ready"
CHECK = ("python", "-m", "app.probe")
"""Health check of the image, which reads the status of the service in its metrics where the API takes no probe."""

READABLE = 0o440
"""Mode of the files with secrets, for the group of `fsGroup`."""

POD_SECURITY: Json = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}

CONTAINER_SECURITY: Json = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def container(plan: Plan, name: str, ports: dict[str, int]) -> Json:
    """The container.

    A process is live once it listens, and ready once a model is in service, for which kernels are compiled first. Only
    the former ends a container: another start mends neither a registry that is away nor a slow compiler. On two cores
    with seven times as much to do, the process was live after 17 s, and ready after 25 s with compiled kernels and
    after 212 s without.

    Args:
        plan: The deployment.
        name: Name of the container.
        ports: Its ports by name.
    """
    return {
        "name": name,
        "image": Quoted(plan.image),
        "args": ["madrone", "serve"],
        "ports": [{"name": port, "containerPort": number, "protocol": "TCP"} for port, number in ports.items()],
        "env": environment(plan),
        # Variables of other programs, such as AWS_…, MLFLOW_TRACKING_TOKEN and OTEL_….
        "envFrom": [{"secretRef": {"name": f"{plan.name}-env", "optional": True}}],
        "startupProbe": {**_asked(plan, LIVE), "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 90},
        "livenessProbe": {**_asked(plan, LIVE), "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "readinessProbe": {**_asked(plan, READY), "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 2},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(PRESTOP_S)]}}},
        "resources": resources(plan),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": mounts(plan),
    }


def environment(plan: Plan) -> list[Json]:
    """Environment variables of the container. To Kubernetes `$(NAME)` is another variable, and `$$` a dollar."""
    variables = plan.places | plan.variables | plan.secret_variables
    return [{"name": name, "value": Quoted(value.replace("$", "$$"))} for name, value in variables.items()]


def resources(plan: Plan) -> Json:
    """Processor and memory: no limit of the processor, since a container that has to wait answers late."""
    memory = f"{plan.memory_mib}Mi"
    return {"requests": {"cpu": str(CPU * plan.workers), "memory": memory}, "limits": {"memory": memory}}


def mounts(plan: Plan) -> list[Json]:
    """The places of a container that are not the image's."""
    found: list[Json] = [{"name": "state", "mountPath": str(HOME)}, {"name": "tmp", "mountPath": "/tmp"}]
    if plan.tls:
        found.append({"name": "tls", "mountPath": str(TLS_AT), "readOnly": True})
    if plan.secrets:
        found.append({"name": "secrets", "mountPath": str(SECRETS_AT), "readOnly": True})
    return found


def volumes(plan: Plan) -> list[Json]:
    """The volumes behind `mounts`."""
    found: list[Json] = [{"name": "state", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    if plan.tls:
        found.append({"name": "tls", "secret": {"secretName": f"{plan.name}-tls", "defaultMode": READABLE}})
    if plan.secrets:
        items = [{"key": name, "path": name} for name in plan.secrets]
        found.append({"name": "secrets", "secret": {"secretName": plan.name, "defaultMode": READABLE, "items": items}})
    return found


def _asked(plan: Plan, path: str) -> Json:
    """What a probe asks. One without a certificate that it would need opens the port, or runs the image's check."""
    if plan.asks_certificates:
        return {"tcpSocket": {"port": "http"}} if path == LIVE else {"exec": {"command": list(CHECK)}}
    return {"httpGet": {"path": path, "port": "http", "scheme": "HTTPS" if plan.tls else "HTTP"}}
