"""All metrics as text, for a scrape: in the Prometheus format or in OpenMetrics, the only one that has exemplars.

prometheus-client's own writers check and escape every name and label again at each scrape, letter by letter: 10 µs of
the GIL for a line, and 18 in OpenMetrics, for which every request would wait. Here a line's name and labels are written
once and kept, and only the value is new. The text is the same, byte for byte.
"""

import copy
from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE_OPENMETRICS
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

PLAIN = CONTENT_TYPE_PLAIN_0_0_4
OPENMETRICS = CONTENT_TYPE_OPENMETRICS
"""Content types of the two formats."""

NOT_OUR_OWN = ("process_", "python_")
"""What the names of families begin with that every Python process has, and that no prefix changes."""

MOST_HEADS = 100_000
"""Most beginnings of lines that are kept. Series end when a model does, and theirs are forgotten with all others."""


class Families(Protocol):
    """Source of metrics, as the writers of prometheus-client take it."""

    def collect(self) -> Iterable[Metric]:
        """All families."""
        ...


class Prefixed:
    """The families of a source, those of the service under names with a prefix.

    Args:
        source: The source.
        prefix: Prefix of the names; empty for none.
    """

    def __init__(self, source: Families, prefix: str) -> None:
        self._source = source
        self._prefix = prefix

    def collect(self) -> Iterator[Metric]:
        """All families."""
        return map(self._renamed, self._source.collect())

    def _renamed(self, family: Metric) -> Metric:
        if not self._prefix or family.name.startswith(NOT_OUR_OWN):
            return family
        renamed = copy.copy(family)
        renamed.name = self._prefix + family.name
        renamed.samples = [sample._replace(name=self._prefix + sample.name) for sample in family.samples]
        return renamed


class Exposition:
    """Writes the metrics.

    Args:
        families: Source of the metrics.
    """

    def __init__(self, families: Families) -> None:
        self._families = families
        self._heads: dict[tuple[str, ...], str] = {}

    def text(self, *, openmetrics: bool = False) -> bytes:
        """All metrics, in the Prometheus text format or in OpenMetrics."""
        if len(self._heads) > MOST_HEADS:
            self._heads = {}
        lines: list[str] = []
        heads = self._heads
        for family in self._families.collect():
            lines += (_about_in_openmetrics if openmetrics else _about)(family)
            for sample in family.samples:
                name, labels, value = sample[:3]
                key = (name, *labels.values())  # the series of a name have the same labels in the same order
                head = heads.get(key)
                if head is None:
                    head = heads[key] = name + _labels(labels)
                exemplar = _exemplar(sample.exemplar) if openmetrics and sample.exemplar is not None else ""
                lines.append(f"{head} {_number(value)}{exemplar}\n")
        if openmetrics:
            lines.append("# EOF\n")
        return "".join(lines).encode()


def accepts_openmetrics(accept: str | None) -> bool:
    """Whether an Accept header names OpenMetrics in version 1, which a scraper does that prefers it."""
    for given in (accept or "").split(","):
        name, *parameters = (part.strip() for part in given.split(";"))
        if name == "application/openmetrics-text":
            versions = [parameter for parameter in parameters if parameter.startswith("version=")]
            if not versions or versions[0] == "version=1.0.0":
                return True
    return False


def _about(family: Metric) -> list[str]:
    """Help and type of a family in the Prometheus text format."""
    name, kind = family.name, family.type
    if kind == "counter":
        name += "_total"
    elif kind == "info":
        name, kind = f"{name}_info", "gauge"
    text = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
    return [f"# HELP {name} {text}\n", f"# TYPE {name} {kind}\n"]


def _about_in_openmetrics(family: Metric) -> list[str]:
    unit = [f"# UNIT {family.name} {family.unit}\n"] if family.unit else []
    return [f"# HELP {family.name} {_escaped(family.documentation)}\n", f"# TYPE {family.name} {family.type}\n", *unit]


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(labels.items())) + "}"


def _number(value: float) -> str:
    """A value as Go writes it, which for most numbers is as Python does."""
    if -1e6 < value < 1e6:
        kind = type(value)
        if kind is float:
            return repr(value)
        if kind is int:
            return f"{value}.0"
    return floatToGoString(value)


def _exemplar(exemplar: Exemplar) -> str:
    labels = _labels(exemplar.labels) or "{}"
    return f" # {labels} {floatToGoString(exemplar.value)} {exemplar.timestamp}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
