"""Profiles on disk, of models that came without one: `DATA_DIR/profiles/<digest>.json`."""

import logging
import re
from pathlib import Path

from app.drift.profile import MAX_PROFILE_BYTES, Profile, ProfileError
from app.drift.tracker import WatchedModel
from app.files import reason, replace_file

DIGEST = re.compile("[0-9a-f]{64}")

log = logging.getLogger(__name__)


class ProfileStore:
    """Reads and writes profiles. A file that cannot be used is a warning, once for each state of it.

    Args:
        directory: Directory of the files; it need not exist.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: dict[str, int] = {}
        self._unread: dict[str, str] = {}  # why the file of a model could not be looked at

    def path(self, digest: str) -> Path:
        """File of a model.

        Raises:
            ValueError: The digest is none.
        """
        if not DIGEST.fullmatch(digest):
            raise ValueError("not the digest of a model")
        return self._directory / f"{digest}.json"

    def write(self, digest: str, profile: Profile) -> Path:
        """Write the profile of a model.

        Raises:
            OSError: It cannot be written; the old one is unchanged.
        """
        path = self.path(digest)
        replace_file(path, profile.to_json())
        return path

    def keep(self, digest: str, profile: Profile) -> None:
        """Write a profile of rows served, unless there is one. A failure is a warning: a restart makes another."""
        try:
            if not self.path(digest).exists():
                self.write(digest, profile)
                self._seen[digest] = self.path(digest).stat().st_mtime_ns
        except OSError as error:
            log.warning("profile cannot be written", extra={"digest": digest, "reason": reason(error)})

    def changed(self, model: WatchedModel) -> Profile | None:
        """Profile of a model if its file is another one than at the last look; None if not, or if it cannot be used."""
        try:
            path = self.path(model.digest)
            modified = path.stat().st_mtime_ns
            self._unread.pop(model.digest, None)
            if self._seen.get(model.digest) == modified:
                return None
            self._seen[model.digest] = modified
            profile = read_profile(path)
            profile.check(model.features, model.outputs)
        except FileNotFoundError:
            return None
        except (OSError, ProfileError) as error:
            why = reason(error)
            if self._unread.get(model.digest) != why:
                log.warning("profile cannot be used", extra={"digest": model.digest, "reason": why})
            self._unread[model.digest] = why
            return None
        return profile

    def forget(self, digest: str) -> None:
        """Read the file of a model anew at the next look."""
        self._seen.pop(digest, None)
        self._unread.pop(digest, None)


def read_profile(path: Path) -> Profile:
    """Read a file.

    Raises:
        ProfileError: The file is no profile.
        OSError: It cannot be read.
    """
    with open(path, "rb") as file:
        content = file.read(MAX_PROFILE_BYTES + 1)
    if len(content) > MAX_PROFILE_BYTES:
        raise ProfileError(f"is larger than {MAX_PROFILE_BYTES} bytes")
    return Profile.from_json(content)
