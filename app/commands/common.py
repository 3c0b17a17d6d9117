"""What commands have in common: settings, checks of the machine, and the end with a message."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Mapping
from typing import NoReturn

import click

from app.address import AddressError, parse_address
from app.config.contradictions import environ_of_model
from app.config.settings import Settings, SettingsError
from kernels.cache import cache_kernels

BAD_USAGE = 2
OPENMP_LIBRARY = "libgomp.so.1"


def model_address(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The address of a model, given to a command; one that is none is bad usage."""
    try:
        return None if value is None else parse_address(value).text
    except AddressError as error:
        raise click.BadParameter(f"{error}.", param=parameter) from error


def settings_of_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from variables; bad ones end the command with a line for each."""
    try:
        return Settings.from_environ(environ)
    except SettingsError as error:
        refuse_settings(str(error))


def refuse_settings(lines: str) -> NoReturn:
    """End the command over bad settings, of which there is a line for each."""
    click.echo(f"Madrone cannot start because some settings are not valid:\n{lines}", err=True)
    sys.exit(BAD_USAGE)


def settings_of_model(model: str, environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from variables, for a model that the command was given the address of: see `environ_of_model`."""
    return settings_of_environment(environ_of_model(model, environ))


def settings_of_name(name: str | None, settings: Settings) -> Settings:
    """Settings of the model of a name, or of the first where none is given; another name is bad usage."""
    models = {one.model_name: one for one in settings.models}
    if name is None:
        return settings.models[0]
    if name not in models:
        raise click.BadParameter(f"{name!r} is none of {', '.join(models)}.", param_hint="--name")
    return models[name]


def check_openmp() -> None:
    """Stop with the name of the package that slim Linux systems lack; LightGBM's import would show a traceback."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL(OPENMP_LIBRARY)
        except OSError:
            stop(f"LightGBM needs {OPENMP_LIBRARY}, which is not installed. On Debian: apt-get install libgomp1.")


def keep_kernels(settings: Settings) -> None:
    """Keep compiled kernels in DATA_DIR, which is created here so that only its owner can read it."""
    with contextlib.suppress(OSError):  # a later write reports it
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    cache_kernels(settings.data_dir / "kernels")


def place_of(error: OSError) -> str:
    """The file that an error is of, to stand before its reason; empty if it does not tell."""
    return f"{error.filename}: " if isinstance(error.filename, str | os.PathLike) else ""


def stop(message: str) -> NoReturn:
    """End the command with a message and the exit status 1."""
    click.echo(message, err=True)
    sys.exit(1)
