"""What a batch costs, kept between processes: measuring takes longer than all else of loading a model."""

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from app.models.disk.files import reason, replace_file
from kernels.cache import kernels_version
from kernels.cost import Cost

MAX_MODELS = 64

log = logging.getLogger(__name__)


class Calibration(msgspec.Struct, frozen=True):
    """Of one model, by one version of the kernels.

    Attributes:
        kernels: Their version.
        digest: The model's.
        costs: By device.
    """

    kernels: str
    digest: str
    costs: dict[str, Cost]

    def is_of(self, digest: str) -> bool:
        """Whether it holds for this model by these kernels."""
        return (self.kernels, self.digest) == (kernels_version(), digest)


class Calibrations:
    """A file of the newest calibrations.

    Nothing depends on it: a file that cannot be used is a warning, and costs are measured again. The same goes for the
    costs of one of two processes that write at once; the file is whole at every moment.

    Args:
        path: The file; it and its directory need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def costs(self, digest: str) -> dict[str, Cost]:
        """Costs of a model by device; empty where none are known. Never raises."""
        return next((known.costs for known in self._read() if known.is_of(digest)), {})

    def store(self, digest: str, costs: Mapping[str, Cost]) -> None:
        """Keep a model's costs, beside those of other devices that share the file. Never raises.

        Args:
            digest: The model's.
            costs: By device; without any, nothing is written.
        """
        calibrations = self._read()
        known = next((calibration.costs for calibration in calibrations if calibration.is_of(digest)), {})
        if known == (merged := {**known, **costs}):
            return
        others = [calibration for calibration in calibrations if not calibration.is_of(digest)]
        newest = Calibration(kernels_version(), digest, merged)
        try:
            content = msgspec.json.encode([*others, newest][-MAX_MODELS:])
            replace_file(self._path, msgspec.json.format(content, indent=2))
        except OSError as error:
            log.warning("calibrations cannot be written", extra={"reason": reason(error)})

    def _read(self) -> list[Calibration]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Calibration])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.warning("calibrations cannot be read", extra={"reason": f"{type(error).__name__}: {error}"[:300]})
            return []
