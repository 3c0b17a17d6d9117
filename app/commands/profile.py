"""`madrone profile`: the reference of drift detection for a model that came without one."""

from pathlib import Path

import click

from app.commands.common import check_openmp, keep_kernels, model_address, place_of, settings_of_model, stop
from app.config.contradictions import LEAST_BASELINE


@click.command(short_help="Write what drift of served rows is measured against.")
@click.argument("model", callback=model_address)
@click.option(
    "--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True,
    help="Rows that the model is meant for: a .csv or .parquet file with its features.",
)  # fmt: skip
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the profile there instead.")
def profile(model: str, data: Path, output: Path | None) -> None:
    """Write the profile of MODEL, which a service compares the rows that it answers with.

    MODEL is a file, a directory or an address, such as s3://bucket/model, runs:/ID/model or models:/churn@champion.
    The profile goes to DATA_DIR, where a service that serves the same files finds it within seconds, also while it
    runs. Other columns of the file are not read.
    """
    settings = settings_of_model(model)
    check_openmp()
    keep_kernels(settings)

    from app.drift.store import ProfileStore
    from app.files import reason
    from app.models.process.client import quiet_worker
    from app.models.refusal import ModelRefused
    from app.models.registry.source import NothingToServe, RegistryUnreachable
    from app.models.watch.profiling import SUFFIXES, DataRefused, profile_model
    from app.score.bad_rows import counted

    if data.suffix not in SUFFIXES:
        raise click.BadParameter(f"{data} ends in none of {', '.join(SUFFIXES)}.", param_hint="--data")
    source = quiet_worker(settings)
    try:
        found = profile_model(settings, source, data)
        if output is not None:
            output.write_bytes(found.made.to_json())
            path = output
        elif found.own is not None:
            stop(f"{model} has a profile of its own, which the service uses. --output writes another one elsewhere.")
        else:
            path = ProfileStore(settings.profiles).write(found.digest, found.made)
    except DataRefused as error:
        stop(f"{data} cannot be used: {error}")
    except (ModelRefused, NothingToServe, RegistryUnreachable) as error:
        stop(f"{model} cannot be served: {str(error).removeprefix('MODEL_PATH: ')}.")
    except OSError as error:
        stop(f"The profile could not be made: {place_of(error)}{reason(error)}.")
    finally:
        source.close()
    made = found.made
    features = counted(len(made.numbers) + len(made.categories), "feature")
    outputs = counted(len(made.prediction), "output")
    click.echo(f"{path}: {features} of {counted(made.rows, 'row')}, {outputs}, model version {found.version}")
    if made.rows < LEAST_BASELINE:
        click.echo(f"Chance alone moves so few rows: take {LEAST_BASELINE} or more, or expect false alarms.", err=True)
