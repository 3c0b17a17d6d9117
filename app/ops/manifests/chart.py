"""A Helm chart, whose templates are the objects of `cluster.py` with expressions in the place of what may change."""

import json
import re
import textwrap
from typing import Any

import msgspec
import yaml

from app import __version__
from app.config.allowed import allowed_values, description
from app.config.environ import SECRETS
from app.config.settings import Settings
from app.ops.manifests.cluster import COMMENTS, objects
from app.ops.manifests.plan import OF_THE_MACHINE, SECRETS_AT, SHAPING, Plan
from app.ops.manifests.pod import READABLE, resources
from app.ops.manifests.scaling import adapter_rule
from app.ops.manifests.text import Dumper, Json, Quoted, written

NAME = "release-name-of-helm"
"""Text in the place of the release's name, until templates are written."""

OLDEST = ">=1.27.0-0"
"""Versions of Kubernetes that the chart is for."""

SWITCHES = {
    "horizontalpodautoscaler": "autoscaling", "networkpolicy": "networkPolicy", "servicemonitor": "serviceMonitor",
}  # fmt: skip
"""Objects that a value leaves out."""

TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}


class Inline(str):
    """An expression of a template in the place of a value."""


class Lines(str):
    """Lines of a template in the place of an item or a key with its value."""


def _hidden(dumper: yaml.SafeDumper, data: Inline | Lines) -> yaml.Node:
    """A word from which `_shown` makes the expression again: YAML would put quotes around it."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", f"{type(data).__name__}_{data.encode().hex()}_")


Dumper.add_representer(Inline, _hidden)
Dumper.add_representer(Lines, _hidden)


def chart(plan: Plan) -> dict[str, str]:
    """The chart's files by their paths. Rendered with its own values, it is what `kubernetes` makes of the plan.

    Settings from which ports and times of the manifests follow are part of the templates; all others are values.
    """
    values = _values(plan)
    about: Json = {
        "apiVersion": "v2",
        "name": plan.name,
        "description": "LightGBM models from an MLflow registry, served by Madrone",
        "type": "application",
        "version": __version__,
        "appVersion": Quoted(__version__),
        "kubeVersion": Quoted(OLDEST),
    }
    notes = "".join(f"# {note}\n" for note in plan.notes)
    commented = (written({name: value}, [comment]) for name, (comment, value, _) in values.items())
    files = {
        "Chart.yaml": written(about),
        "values.yaml": "\n".join([notes, *commented]) if notes else "\n".join(commented),
        "values.schema.json": json.dumps(_schema(values), indent=2) + "\n",
        "templates/NOTES.txt": NOTES.replace("PORT", str(plan.settings.api_port)).replace("SCHEME", _scheme(plan)),
    }
    released = msgspec.structs.replace(plan, name=NAME, namespace=None)
    found = objects(released)
    _open(found, released)
    for name, document in found.items():
        text = _shown(written(document, COMMENTS.get(name, ())))
        if (switch := SWITCHES.get(name)) is not None:
            text = f"{{{{- if .Values.{switch} }}}}\n{text}{{{{- end }}}}\n"
        files[f"templates/{name}.yaml"] = text
    return files


def _open(found: dict[str, Json], plan: Plan) -> None:
    """Put expressions into the objects."""
    found["serviceaccount"]["metadata"]["annotations"] = _if_any("annotations", "serviceAccountAnnotations")
    deployment = found["deployment"]["spec"]
    template = deployment["template"]
    template["metadata"]["annotations"] = _if_any("annotations", "podAnnotations")
    pod = template["spec"]
    pod |= {name: _if_any(name, name) for name in ("imagePullSecrets", "nodeSelector", "tolerations")}
    (container,) = pod["containers"]
    container["image"] = Inline("{{ .Values.image | quote }}")
    container["resources"] = Inline("{{ toJson .Values.resources }}")
    fixed = plan.places.keys() | {name.upper() for name in SHAPING}
    container["env"] = [one for one in container["env"] if one["name"] in fixed]
    container["env"] += [Lines(VARIABLES), Lines(SECRET_VARIABLES)]
    for place, item in (("volumeMounts", MOUNT), ("volumes", VOLUME)):
        owner = container if place == "volumeMounts" else pod
        owner[place] = [one for one in owner[place] if one["name"] != "secrets"] + [Lines(item)]
    if "horizontalpodautoscaler" in found:
        scaler = found["horizontalpodautoscaler"]["spec"]
        scaler |= {"minReplicas": Inline("{{ .Values.replicas }}"), "maxReplicas": Inline("{{ .Values.maxReplicas }}")}
        fewest = "{{- if not .Values.autoscaling }}\nreplicas: {{ .Values.replicas }}\n{{- end }}"
        found["deployment"]["spec"] = {"replicas": Lines(fewest), **deployment}
    else:
        deployment["replicas"] = Inline("{{ .Values.replicas }}")


VARIABLES = """{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ $value | replace "$" "$$" | quote }}
{{- end }}"""

SECRET_VARIABLES = f"""{{{{- range .Values.secret.keys }}}}
- name: {{{{ . }}}}_FILE
  value: "{SECRETS_AT}/{{{{ . }}}}"
{{{{- end }}}}"""

MOUNT = f"""{{{{- if .Values.secret.keys }}}}
- name: secrets
  mountPath: {SECRETS_AT}
  readOnly: true
{{{{- end }}}}"""

VOLUME = """{{- if .Values.secret.keys }}
- name: secrets
  secret:
    secretName: {{ .Values.secret.name | quote }}
    defaultMode: MODE
    items:
    {{- range .Values.secret.keys }}
    - key: {{ . }}
      path: {{ . }}
    {{- end }}
{{- end }}""".replace("MODE", str(READABLE))

NOTES = """Release {{ .Release.Name }} of Madrone {{ .Chart.AppVersion }}, in the namespace {{ .Release.Namespace }}.
{{- with .Values.secret.keys }}

Its pods start once there is a Secret with the keys that they need, each from a file of its name:

  kubectl create secret generic {{ $.Values.secret.name }} --namespace {{ $.Release.Namespace }}
    {{- range . }} --from-file={{ . }}{{ end }}
{{- end }}

The first start compiles for a minute or more. See when it is ready, and ask it:

  kubectl rollout status deployment/{{ .Release.Name }} --namespace {{ .Release.Namespace }}
  kubectl port-forward service/{{ .Release.Name }} PORT --namespace {{ .Release.Namespace }}
  curl SCHEME://localhost:PORT/health
"""


def _values(plan: Plan) -> dict[str, tuple[str, Any, Json]]:
    """The values by name: a comment, the default, and its schema."""
    count: Json = {"type": "integer", "minimum": 1}
    switch: Json = {"type": "boolean"}
    secret: Json = {
        "type": "object",
        "required": ["name", "keys"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "keys": {"type": "array", "items": {"enum": sorted(field.upper() for field in SECRETS)}},
        },
    }
    env = {name: Quoted(value) for name, value in plan.variables.items() if name.lower() not in SHAPING}
    values: dict[str, tuple[str, Any, Json]] = {
        "image": ("Image of Madrone.", Quoted(plan.image), {"type": "string", "minLength": 1}),
        "imagePullSecrets": ("Secrets of the image's registry, such as {name: registry}.", [], {"type": "array"}),
        "replicas": ("Fewest replicas.", plan.replicas, count),
        "env": ("Settings, as text; app/README.md of Madrone has them all.", env, _env_schema()),
        "secret": (
            "Secret of this namespace that holds settings which are secret, and which of its keys are used.",
            {"name": plan.name, "keys": list(plan.secrets)},
            secret,
        ),
        "resources": ("Processor and memory of a pod.", resources(plan), {"type": "object"}),
        "networkPolicy": ("Whether there is a NetworkPolicy.", True, switch),
        "serviceAccountAnnotations": ("Annotations by which a cloud gives access to its stores.", {}, TEXTS),
        "podAnnotations": ("Annotations of the pods.", {}, TEXTS),
        "nodeSelector": ("Labels of the nodes that pods run on.", {}, TEXTS),
        "tolerations": ("Taints of nodes that pods run on all the same.", [], {"type": "array"}),
    }
    if plan.settings.enable_prometheus:
        scaler = (
            "Whether there is an autoscaler, which gets requests in flight from the Prometheus adapter by this rule:"
        )
        comment = "\n# ".join([scaler, *adapter_rule(plan).splitlines()])
        values |= {
            "autoscaling": (comment, True, switch),
            "maxReplicas": ("Most replicas, with the autoscaler.", plan.max_replicas, count),
            "serviceMonitor": ("Whether there is a ServiceMonitor, which needs the Prometheus operator.", True, switch),
        }
    return values


def _schema(values: dict[str, tuple[str, Any, Json]]) -> Json:
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "required": list(values),
        "additionalProperties": False,
        "properties": {name: schema for name, (_, _, schema) in values.items()} | {"global": {"type": "object"}},
    }


def _env_schema() -> Json:
    """Schema of the settings that are values: text, whose bounds the service checks itself when it starts."""
    properties: dict[str, Json] = {}
    for field in msgspec.structs.fields(Settings):
        if field.name not in SECRETS | OF_THE_MACHINE and field.name not in SHAPING:
            about = f"{description(field.type)}: {allowed_values(field)}"
            properties[field.name.upper()] = {"type": "string", "description": about}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _scheme(plan: Plan) -> str:
    return "https" if plan.tls else "http"


def _if_any(key: str, value: str) -> Lines:
    """A key whose value is left out where it is empty."""
    return Lines(f"{{{{- with .Values.{value} }}}}\n{key}: {{{{ toJson . }}}}\n{{{{- end }}}}")


def _shown(text: str) -> str:
    """A template from YAML with hidden expressions."""

    def lines(found: re.Match[str]) -> str:
        return textwrap.indent(bytes.fromhex(found[2]).decode(), found[1])

    text = re.sub(r"^( *)(?:- |\w+: )Lines_([0-9a-f]*)_$", lines, text, flags=re.MULTILINE)
    text = re.sub(r"\bInline_([0-9a-f]*)_", lambda found: bytes.fromhex(found[1]).decode(), text)
    text = re.sub(rf"(?<=: ){NAME}$", "{{ .Release.Name | quote }}", text, flags=re.MULTILINE)
    return text.replace(NAME, "{{ .Release.Name }}")
