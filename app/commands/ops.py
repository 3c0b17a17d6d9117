"""`madrone ops`: what watches the service, and manifests to deploy it."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.commands.common import settings_of_environment, stop
from app.files import reason

if TYPE_CHECKING:
    from app.ops.manifests.plan import Plan

PREFIX = re.compile(r"[A-Za-z_]\w*|", re.ASCII)

NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?", re.ASCII)
"""A label of RFC 1035, which the name of a Service has to be."""

NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII)
"""A label of RFC 1123."""

IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9._/:-]*(@sha256:[0-9a-f]{64})?", re.ASCII)

MOST_NAME, MOST_NAMESPACE, MOST_IMAGE = 53, 63, 512
"""Most characters. Ten of a name are left for what is added to it, as Helm does."""

MOST_REPLICAS = 1000

WEB_ADDRESS = re.compile(r"https?://[^\s{}]+")


def metric_prefix(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A prefix given to a command; one that no metric can begin with is bad usage."""
    if value is not None and not PREFIX.fullmatch(value):
        raise click.BadParameter("must be letters, digits and _, and not begin with a digit.", param=parameter)
    return value


def web_address(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """An address given to a command; one that no browser opens is bad usage, and so is a template of Prometheus."""
    if value is not None and not WEB_ADDRESS.fullmatch(value):
        raise click.BadParameter("must begin with http:// or https://, without blanks and braces.", param=parameter)
    return value


def object_name(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Name for the objects of a deployment; one that Kubernetes refuses is bad usage."""
    if value is not None and not (NAME.fullmatch(value) and len(value) <= MOST_NAME):
        message = f"must be at most {MOST_NAME} of a-z, 0-9 and -, begin with a letter, and not end with -."
        raise click.BadParameter(message, param=parameter)
    return value


def namespace_name(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Name of a namespace; one that Kubernetes refuses is bad usage."""
    if value is not None and not (NAMESPACE.fullmatch(value) and len(value) <= MOST_NAMESPACE):
        message = f"must be at most {MOST_NAMESPACE} of a-z, 0-9 and -, and neither begin nor end with -."
        raise click.BadParameter(message, param=parameter)
    return value


def image_name(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Name of an image; what cannot be one is bad usage."""
    if value is not None and not (IMAGE.fullmatch(value) and len(value) <= MOST_IMAGE):
        raise click.BadParameter("must be an image's name, such as madrone:1.0.0.", param=parameter)
    return value


prefix_option = click.option(
    "--prefix", callback=metric_prefix, help="Prefix of the service's metrics. Default: METRICS_PREFIX."
)


@click.group(short_help="Print what deploys and watches the service.")
def ops() -> None:
    """Print what Grafana and Prometheus need to watch the service, and manifests to deploy it."""


@ops.command()
@prefix_option
def grafana(prefix: str | None) -> None:
    """Print a Grafana dashboard as JSON."""
    from app.ops.dashboard import dashboard

    click.echo(dashboard(_prefix(prefix)))


@ops.command()
@prefix_option
@click.option(
    "--runbook-url", callback=web_address, help="Page that each alert refers to. Default: the installed README."
)
def rules(prefix: str | None, runbook_url: str | None) -> None:
    """Print recording rules and alerts of Prometheus as YAML."""
    from app.ops.rules import rules

    click.echo(rules(settings_of_environment(), _prefix(prefix), runbook_url), nl=False)


@ops.command()
def servicemonitor() -> None:
    """Print a ServiceMonitor of the Prometheus operator as YAML."""
    from app.ops.service_monitor import service_monitor

    settings = settings_of_environment()
    if not settings.enable_prometheus:
        stop("ENABLE_PROMETHEUS is false: there is nothing to scrape.")
    click.echo(service_monitor(settings), nl=False)


def deployment_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that manifests have in common."""
    for option in reversed(
        (
            click.option("--name", callback=object_name, help="Name of the objects. Default: madrone."),
            click.option("--image", callback=image_name, help="Image of Madrone. Default: madrone and its version."),
            click.option(
                "--replicas", type=click.IntRange(1, MOST_REPLICAS), help="Fewest replicas. Default: 2."
            ),
            click.option(
                "--max-replicas", type=click.IntRange(1, MOST_REPLICAS),
                help="Most replicas. Default: four times as many as --replicas.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@ops.command(short_help="Print manifests for Kubernetes.")
@deployment_options
@click.option("--namespace", callback=namespace_name, help="Namespace of the objects. Default: that of kubectl.")
def kubernetes(**options: Any) -> None:
    """Print manifests for Kubernetes as YAML.

    Settings of the environment that are not the default become variables of the container; secrets are named, and their
    values are not printed.
    """
    from app.ops.manifests.cluster import kubernetes

    click.echo(kubernetes(_plan(**options)), nl=False)


@ops.command(short_help="Print a ServingRuntime of KServe.")
@deployment_options
@click.option("--namespace", callback=namespace_name, help="Namespace of the objects. Default: that of kubectl.")
def kserve(**options: Any) -> None:
    """Print a ServingRuntime of KServe, and an InferenceService that uses it, as YAML.

    Settings and secrets go into them as into the manifests of `madrone ops kubernetes`.
    """
    from app.ops.manifests.serving_runtime import kserve

    plan = _plan(**options)
    if plan.tls:
        stop("API_TLS_CERT is set, but KServe sends requests without TLS.")
    click.echo(kserve(plan), nl=False)


@ops.command(short_help="Write a Helm chart.")
@deployment_options
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="New folder, or new archive if it ends in .tgz."
)
def helm(output: Path, **options: Any) -> None:
    """Write a Helm chart, which makes of its default values what `madrone ops kubernetes` prints.

    Settings of the environment that are not the default are its values, but for those of ports and of the shutdown,
    which are part of its templates. Secrets are named, and their values are not written.
    """
    from app.ops.manifests.chart import chart

    plan = _plan(**options)
    _write(chart(plan), output, plan.name)


@ops.command(short_help="Write a folder for Docker Compose.")
@click.option("--name", callback=object_name, help="Name of the project. Default: madrone.")
@click.option("--image", callback=image_name, help="Image of Madrone. Default: madrone and its version.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="New folder.")
def compose(output: Path, **options: Any) -> None:
    """Write a folder for Docker Compose: Madrone, MLflow, PostgreSQL, Prometheus and Grafana.

    Settings of the environment that are not the default become variables, but for those that name a registry or a
    database, which Compose starts itself. Passwords of theirs are random, in files. Other secrets are not written.
    """
    from app.ops.manifests.compose import compose, needed

    plan = _plan(**options)
    if output.suffix == ".tgz":
        raise click.BadParameter("must be a folder.", param_hint="'--output'")
    _write(compose(plan), output, plan.name)
    for path in needed(plan):
        click.echo(f"Before a start, make the file {output / path}, readable for all.", err=True)


def _write(files: dict[str, str], output: Path, name: str) -> None:
    """Write the files of a manifest, and end the command if that fails."""
    from app.ops.manifests.files import write_files

    try:
        write_files(files, output, name)
    except OSError as error:
        stop(f"Cannot write {output}: {reason(error)}.")


def _plan(**options: Any) -> "Plan":
    """The deployment that the settings and the given options describe."""
    from app.ops.manifests.plan import MOST_TO_FEWEST, Plan

    given = {name: value for name, value in options.items() if value is not None}
    fewest, most = given.get("replicas"), given.get("max_replicas")
    if most is None and fewest is not None:
        given["max_replicas"] = MOST_TO_FEWEST * fewest
    plan = Plan(settings=settings_of_environment(), environ=dict(os.environ), **given)
    if plan.max_replicas < plan.replicas:
        message = f"must be at least --replicas, which is {plan.replicas}."
        raise click.BadParameter(message, param_hint="'--max-replicas'")
    if plan.asks_certificates and not plan.settings.enable_prometheus:
        stop(
            "API_TLS_CLIENT_CA needs ENABLE_PROMETHEUS here: probes have no certificate, and read the metrics instead."
        )
    return plan


def _prefix(given: str | None) -> str:
    """The prefix that was given, or that of the settings."""
    return given if given is not None else settings_of_environment().metrics_prefix or ""
