"""Files of a manifest that has several, in a folder or an archive."""

import io
import tarfile
from pathlib import Path, PurePath

ARCHIVE = ".tgz"

SECRETS = "secrets"
"""Folder that only its owner enters."""


def write_files(files: dict[str, str], output: Path, name: str) -> None:
    """Write files below a new folder, or into a new archive whose name ends in .tgz.

    Args:
        files: Texts by path.
        output: The folder or archive.
        name: Folder in the archive that holds them.

    Raises:
        OSError: It exists already, or cannot be written.
    """
    if output.suffix == ARCHIVE:
        with output.open("xb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for path, text in files.items():
                content = text.encode()
                entry = tarfile.TarInfo(f"{name}/{path}")
                entry.size, entry.mode = len(content), 0o644
                archive.addfile(entry, io.BytesIO(content))
        return
    output.mkdir()
    folders = {folder for path in files for folder in PurePath(path).parents}
    for folder in sorted(folders):
        (output / folder).mkdir(exist_ok=True)
        (output / folder).chmod(0o700 if folder.name == SECRETS else 0o755)
    for path, text in files.items():
        (output / path).write_text(text)
        (output / path).chmod(0o644)  # whatever the umask: containers have users of their own, who read what is mounted
