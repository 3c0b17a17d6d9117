"""A model as MLflow stores it, and what loading it would run."""

import pickletools
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from app.address import SCHEME
from app.config.contradictions import missing_client
from app.models.convert.refused import ConversionRefused
from app.models.directory import read_mlmodel
from app.models.parts import FLAVOR, OBJECT_KEYS, about_flavor, other_flavors
from app.models.refusal import ModelRefused
from app.models.registry.faults import without_credentials

MAX_PICKLE_BYTES = 512 * 1024 * 1024
"""Largest pickle whose names are listed; a larger one is loaded all the same."""
OBJECT_SUFFIXES = (".pkl", ".pickle", ".joblib", ".cloudpickle", ".skops")


class UnloadedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model directory, not loaded yet.

    Attributes:
        uri: Address that the user gave, with an alias resolved to its version.
        directory: Directory with the MLmodel file.
        mlmodel: Content of the MLmodel file.
    """

    uri: str
    directory: Path
    mlmodel: dict[str, Any]

    @property
    def run_id(self) -> str | None:
        """Run that logged the model, if known."""
        return self.mlmodel.get("run_id")

    @property
    def description(self) -> list[tuple[str, str]]:
        """What is known of the object without loading it: names and values, to show before it is loaded."""
        flavors: dict[str, Any] = self.mlmodel["flavors"]
        lines = [("flavors", ", ".join(sorted(flavors)))]
        if loader := flavors.get("python_function", {}).get("loader_module"):
            lines.append(("loader module", str(loader)))
        for name, flavor in flavors.items():
            if isinstance(flavor, dict) and (kind := flavor.get("model_class") or flavor.get("python_model")):
                lines.append((f"{name} class", str(kind)))
        if code := next(
            (flavor["code"] for flavor in flavors.values() if isinstance(flavor, dict) and flavor.get("code")), None
        ):
            lines.append(("code", f"{code}/, put on Python's path"))
        lines.extend(
            (str(path.relative_to(self.directory)), _names(path))
            for path in sorted(self.directory.rglob("*"))
            if path.suffix in OBJECT_SUFFIXES and path.is_file()
        )
        made = flavors.get("python_function", {}).get("python_version")
        if made:
            lines.append(("made with", f"Python {made}; here is {platform.python_version()}"))
        for name, package, key in (
            ("sklearn", "scikit-learn", "sklearn_version"),
            ("lightgbm", "lightgbm", "lgb_version"),
        ):
            if isinstance(flavor := flavors.get(name), dict) and key in flavor:
                lines.append((package, f"{flavor[key]}; here is {_version(package)}"))
        return lines

    def load(self) -> tuple[Any, Any]:
        """Load the object, which runs its code.

        Returns:
            MLflow's `PyFuncModel`, or None for a model without that flavor, and the object itself.

        Raises:
            ConversionRefused: It cannot be loaded here.
        """
        import mlflow.pyfunc
        from mlflow.lightgbm import load_model as load_lightgbm
        from mlflow.sklearn import load_model as load_sklearn

        flavors = self.mlmodel["flavors"]
        try:
            if "python_function" in flavors:
                model = mlflow.pyfunc.load_model(str(self.directory))
                return model, _object(model)
            if "sklearn" in flavors:
                return None, load_sklearn(str(self.directory))
            if "lightgbm" in flavors:
                return None, load_lightgbm(str(self.directory))
        except Exception as error:
            raise ConversionRefused(f"MLflow cannot load the model here: {type(error).__name__}: {error}") from error
        raise ConversionRefused("the model has none of the flavors python_function, sklearn and lightgbm")


def find_stored(uri: str, destination: Path) -> UnloadedModel:
    """Fetch a model's files, without loading them.

    Args:
        uri: A directory, or an address that MLflow knows, in the registry that it is set to.
        destination: Directory for files that have to be fetched.

    Raises:
        ConversionRefused: There is no such model, or it is one that is not to be loaded.
    """
    import mlflow.artifacts

    directory = Path(uri)
    if not directory.is_dir() and not re.match(SCHEME, uri):
        raise ConversionRefused(f"{uri} is no directory with an MLmodel file, and no address in MLflow")
    if (missing := missing_client(uri.partition(":")[0])) is not None:
        raise ConversionRefused(f"{uri} is in a store whose client is not installed: {missing}")
    try:
        uri = _fixed(uri)
        if not directory.is_dir():
            directory = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(destination)))
        mlmodel = read_mlmodel(directory)[1]
    except ModelRefused as error:
        raise ConversionRefused(str(error)) from error
    except Exception as error:
        why = without_credentials(f"{type(error).__name__}: {error}")
        raise ConversionRefused(f"{without_credentials(uri)} cannot be fetched: {why}") from error
    _check_flavors(mlmodel["flavors"])
    return UnloadedModel(uri=without_credentials(uri), directory=directory, mlmodel=mlmodel)


def _check_flavors(flavors: dict[str, Any]) -> None:
    """Refuse a model of a flavor that needs no conversion, or that MLflow has for another library."""
    if FLAVOR in flavors:
        raise ConversionRefused(f"the model has the flavor {FLAVOR}, and can be served as it is")
    if any(name in flavors for name in OBJECT_KEYS):
        return
    for name in other_flavors(flavors):
        if name.isidentifier() and find_spec(f"mlflow.{name}") is not None:
            raise ConversionRefused(about_flavor(name))


def _fixed(uri: str) -> str:
    """The address with the version in place of an alias, which may move."""
    from mlflow import MlflowClient

    name, found, alias = uri.removeprefix("models:/").rpartition("@")
    if not uri.startswith("models:/") or not found or "/" in alias:
        return uri
    return f"models:/{name}/{MlflowClient().get_model_version_by_alias(name, alias).version}"


def _object(model: Any) -> Any:
    """The object inside MLflow's `PyFuncModel`."""
    try:
        return model.unwrap_python_model()
    except Exception:  # another flavor's wrapper
        pass
    try:
        return model.get_raw_model()
    except Exception:
        return model._model_impl


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _names(path: Path) -> str:
    """The packages that a pickle names, found without loading it."""
    if path.suffix == ".skops":
        return "a skops file"
    if path.stat().st_size > MAX_PICKLE_BYTES:
        return "a pickle too large to be listed"
    modules: set[str] = set()
    texts: list[str] = []
    memo: dict[int, str] = {}
    try:
        for opcode, argument, _ in pickletools.genops(path.read_bytes()):
            if opcode.name in ("GLOBAL", "INST"):
                modules.add(str(argument).partition(" ")[0])
            elif opcode.name == "STACK_GLOBAL" and len(texts) > 1:
                modules.add(texts[-2])
            elif opcode.name == "MEMOIZE":
                memo[len(memo)] = texts[-1] if texts else ""
            elif opcode.name in ("BINGET", "LONG_BINGET") and isinstance(argument, int):
                texts = [*texts[-1:], memo.get(argument, "")]
            elif isinstance(argument, str):
                texts = [*texts[-1:], argument]
    except Exception:  # a compressed file, or an array between the opcodes: only what comes before is known
        if not modules:
            return "a pickle whose content cannot be listed"
    packages = sorted({module.partition(".")[0] for module in modules if module.isprintable()})
    return f"a pickle that names {', '.join(packages)[:300]}"
