"""`madrone settings`: the table of all settings."""

import click

from app.config.allowed import settings_table
from app.config.settings import Settings


@click.command()
def settings() -> None:
    """Print all settings as a Markdown table."""
    click.echo(settings_table(Settings))
