"""Files of a manifest that has several, in a folder or an archive."""

import io
import tarfile
from pathlib import Path

ARCHIVE = ".tgz"


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
    for path, text in files.items():
        place = output / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
