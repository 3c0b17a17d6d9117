"""All settings: one frozen Struct, read from environment variables, and what follows from them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import structs

from app.address import Address, AddressError, parse_address
from app.config.contradictions import contradictions
from app.config.environ import values_of, with_files
from app.config.fields import Fields
from app.config.selection import read_models
from app.prediction_log.messages import LogTarget


class SettingsError(ValueError):
    """Raised for settings with bad values; the message has one line for each."""


class Settings(Fields, frozen=True, kw_only=True):
    """All settings of the service. Build it with `Settings.from_environ`."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read settings from environment variables.

        An empty variable counts as unset, except those of NEVER_EMPTY. A secret may be in a file, which a variable
        names whose name ends in _FILE.

        Args:
            environ: Variables by name, such as `os.environ`. Names of no setting are ignored.

        Raises:
            SettingsError: Some values are bad. The message names each of them with its allowed range, and quotes no
                secret.
        """
        environ, unread = with_files(environ)
        values, problems = values_of(cls, environ)
        given = frozenset(name for name in environ if environ[name].strip())
        models, unlike = read_models(values["model_names"], cls) if "model_names" in values else ([], [])
        named: dict[str, Any] = {"model_name": models[0].name} if models else _named_by(values.get("model_path"))
        settings = cls(**named | values)
        problems += unlike + unread + contradictions(settings, given)
        if problems:
            raise SettingsError("\n".join(problems))
        return settings

    @property
    def models(self) -> "tuple[Settings, ...]":
        """Settings of each model, the first one's routes being those without a name."""
        if self.model_names is None:
            return (self,)
        models, problems = read_models(self.model_names, type(self))
        if problems:
            raise SettingsError("\n".join(problems))
        return tuple(structs.replace(self, model_names=None, model_name=model.name, **model.values) for model in models)

    @property
    def place(self) -> Address | None:
        """Address of a model that is served without a registry; None where a registry is asked."""
        address = None if self.model_path is None else parse_address(self.model_path)
        return None if address is None or address.kind == "registered" else address

    @property
    def model_version(self) -> str | None:
        """Version that MODEL_PATH names, or `latest`; None where an alias or stages choose one."""
        return None if self.model_path is None else parse_address(self.model_path).version

    @property
    def source_uri(self) -> str:
        """URI of the registry, or of the model that is served without one."""
        if (place := self.place) is None:
            return self.registry_uri
        return place.path.as_uri() if place.kind == "file" else place.text

    @property
    def embedded_registry(self) -> bool:
        """Whether the registry is the embedded one in `data_dir`."""
        return self.mlflow_tracking_uri is None and self.place is None

    @property
    def tracking_uri(self) -> str:
        """URI of the MLflow tracking store in use."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.data_dir.resolve() / 'mlflow.db'}"

    @property
    def registry_uri(self) -> str:
        """URI of the MLflow model registry in use."""
        return self.mlflow_registry_uri or self.tracking_uri

    @property
    def prediction_database_url(self) -> str:
        """SQLAlchemy URL of the prediction log's database."""
        url = self.database_url or f"sqlite:///{self.data_dir.resolve() / 'predictions.db'}"
        scheme, rest = url.split(":", 1)
        return f"postgresql+psycopg:{rest}" if scheme == "postgresql" else url

    @property
    def prediction_log_target(self) -> LogTarget:
        """Place of the prediction log; it keeps no rows if it is off."""
        return LogTarget(
            self.prediction_database_url,
            0 if self.prediction_log == "off" else self.prediction_log_rows,
            str(self.data_dir.resolve() / "prediction-log"),
            self.prediction_log_format,
            self.prediction_log == "durable",
            self.prediction_log_days,
        )

    @property
    def profiles(self) -> Path:
        """Directory of the profiles of models that came without one."""
        return self.data_dir / "profiles"

    @property
    def api_keys(self) -> tuple[str, ...]:
        """Keys for the prediction routes; none where no key is needed."""
        return tuple(key for key in (self.api_key, self.api_key_second) if key is not None)

    @property
    def effective_log_level(self) -> str:
        """Level to log at: DEBUG in debug mode, else `log_level`."""
        return "DEBUG" if self.api_debug else self.log_level


def _named_by(model_path: str | None) -> dict[str, Any]:
    """Settings that the address of a model stands for. A bad address is reported with the contradictions."""
    try:
        address = None if model_path is None else parse_address(model_path)
    except AddressError:
        address = None
    if address is None:
        return {}
    named: dict[str, Any] = {"model_name": address.name, "model_alias": address.alias}
    if address.stage is not None:
        named |= {"model_stage": address.stage, "model_fallback_stage": address.stage}
    return named
