"""`madrone convert`: a model that can be served out of a Python object."""

from typing import Any

import click

from app.commands.common import check_openmp, settings_of_environment, stop
from app.models.convert.options import convert_options


@click.command(short_help="Make a model that can be served out of a Python object.")
@convert_options
def convert(**options: Any) -> None:
    """Convert a model that is a Python object into one that can be served.

    Loads the model, which runs its code, finds the LightGBM booster in it, folds the steps of a pipeline into the
    booster's trees, and compares the predictions.
    """
    settings = settings_of_environment()
    check_openmp()

    from app.models.convert.command import run

    if (problem := run(settings, **options)) is not None:
        stop(problem)
