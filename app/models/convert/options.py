"""Options of the command `madrone convert`; nothing heavy is imported for them."""

from collections.abc import Callable
from pathlib import Path

import click

OPTIONS = (
    click.argument("model_uri"),
    click.option("--register", "name", metavar="NAME", help="Register the converted model under this name."),
    click.option("--alias", help="Alias for the registered version."),
    click.option(
        "--output",
        type=click.Path(path_type=Path, file_okay=False),
        help="Directory to write to; must be empty or new.",
    ),
    click.option(
        "--data",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="CSV or Parquet file of rows to compare predictions on. Default: the model's input example.",
    ),
    click.option(
        "--unseen-as-missing",
        is_flag=True,
        help="Convert also where a value that is no category then goes another way, that of a missing one.",
    ),
    click.option("--yes", is_flag=True, help="Load the model, and so run its code, without asking."),
)


def convert_options(function: Callable[..., None]) -> Callable[..., None]:
    """The function with the argument and the options of the command."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function
