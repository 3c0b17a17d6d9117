"""`madrone train`: the California Housing model."""

from pathlib import Path

import click

from app.commands.common import check_openmp, keep_kernels, settings_of_environment, stop


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="CSV file with the columns of California Housing. Default: the shared copy, or a download.",
)
@click.option(
    "--recipe",
    type=click.Choice(["full", "stateless"]),
    default="full",
    show_default=True,
    help="full stores the rows that the model is fitted on, and compares others with them; stateless stores none.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Directory to write model, card and provenance to; must be empty or new.",
)
@click.option("--register/--no-register", default=True, help="Register the model in MLflow, or not.")
def train(data: Path | None, recipe: str, output: Path | None, register: bool) -> None:
    """Train the California Housing model and register it.

    The new version gets the alias champion and the stage Production.
    """
    settings = settings_of_environment()
    check_openmp()
    keep_kernels(settings)

    from app.models.registry.source import RegistrySchema
    from app.training.california import RECIPES
    from app.training.command import train_and_register
    from app.training.dataset import DatasetError, load_dataset

    try:
        train_and_register(settings, load_dataset(data), RECIPES[recipe], output=output, register=register)
    except (DatasetError, FileExistsError, RegistrySchema) as error:
        stop(str(error))
