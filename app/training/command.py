"""The command `madrone train`: the California Housing model, with its progress."""

from pathlib import Path

import msgspec
from rich.console import Console

from app.config.settings import Settings
from app.models.registry.publish import check_publishable
from app.training.california import MODEL_NAME, TITLE
from app.training.dataset import Dataset
from app.training.model import train
from app.training.progress import shown_progress
from app.training.recipe import Recipe


def train_and_register(
    settings: Settings, dataset: Dataset, recipe: Recipe, *, output: Path | None, register: bool
) -> None:
    """Train, print the metrics, write model, card and provenance to `output`, and register the model.

    Raises:
        FileExistsError: `output` contains files already.
        RegistrySchema: The registry is a database with the schema of another MLflow.
    """
    if register:
        check_publishable(settings)  # first, because training takes minutes
    if output is not None and output.exists() and any(output.iterdir()):
        raise FileExistsError(f"{output} is not empty.")
    console = Console()
    console.print(f"{len(dataset.target)} rows from {dataset.source}, SHA-256 {dataset.sha256}")
    with shown_progress(console) as report:
        model = train(dataset, recipe, TITLE, report)
    for name, value in model.metrics.items():
        console.print(f"  {name:18} {value:.6g}")
    if output is not None:
        model.save(output)
        provenance = msgspec.json.encode(model.provenance(MODEL_NAME))
        (output / "provenance.json").write_bytes(msgspec.json.format(provenance, indent=2) + b"\n")
    if register:
        version = model.register(MODEL_NAME, settings)
        console.print(f"Registered {MODEL_NAME} version {version}: alias champion, stage Production")
