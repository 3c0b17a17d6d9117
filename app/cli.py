"""The `madrone` command."""

from pathlib import Path

import click
from dotenv import load_dotenv

from app import __version__
from app.commands.calibrate import calibrate
from app.commands.check import check
from app.commands.convert import convert
from app.commands.ops import ops
from app.commands.predict import predict
from app.commands.profile import profile
from app.commands.replay import replay
from app.commands.score import score
from app.commands.serve import serve
from app.commands.settings import settings
from app.commands.train import train

EPILOG = """Settings are environment variables, or lines of a .env file in the working directory: `madrone settings`
lists them. The exit status is 0 if all went well, 1 if not, and 2 if an argument or a setting is not valid."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(__version__, prog_name="madrone", message="%(prog)s %(version)s")
def main() -> None:
    """Serve LightGBM models from an MLflow Model Registry."""
    # Loaded into the environment, because MLflow and clients of clouds read variables of the .env file too.
    load_dotenv(Path(".env"))


for command in (serve, train, convert, calibrate, predict, check, profile, replay, score, ops, settings):
    main.add_command(command)
