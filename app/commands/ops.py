"""`madrone ops`: what watches the service."""

import re

import click

from app.commands.common import settings_of_environment, stop

PREFIX = re.compile(r"[A-Za-z_]\w*|", re.ASCII)

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


prefix_option = click.option(
    "--prefix", callback=metric_prefix, help="Prefix of the service's metrics. Default: METRICS_PREFIX."
)


@click.group()
def ops() -> None:
    """Print what Grafana and Prometheus need to watch the service."""


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


def _prefix(given: str | None) -> str:
    """The prefix that was given, or that of the settings."""
    return given if given is not None else settings_of_environment().metrics_prefix or ""
