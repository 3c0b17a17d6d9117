"""Finished parts of a run, from which a later one goes on."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from app.files import replace_file
from app.score.bad_rows import BadRow, BadRows
from app.score.options import ScoreRefused

MANIFEST = "manifest.json"


class Parts:
    """Scored parts of an input in a hidden folder beside the output, as Arrow streams.

    A part is finished once its report is there, which is written after its rows are on the disk.

    Args:
        output: Path of the output.
        manifest: What the rows depend on: model, options and input.

    Raises:
        ScoreRefused: The folder is of a run of another model, other options or another input.
    """

    def __init__(self, output: Path, manifest: dict[str, Any]) -> None:
        self._folder = _folder(output)
        text, path = json.dumps(manifest, sort_keys=True), self._folder / MANIFEST
        if not path.exists():
            replace_file(path, text.encode())
        elif (before := json.loads(path.read_text())) != json.loads(text):
            changed = sorted(key for key in manifest if before.get(key) != json.loads(text)[key])
            raise ScoreRefused(
                f"The run that --resume would go on with had another {' and '.join(changed)}. "
                f"Remove {self._folder} to begin anew."
            )

    @property
    def finished(self) -> int:
        """Number of finished parts, from the first on without a gap."""
        count = 0
        while self._report(count).exists():
            count += 1
        return count

    def writer(self, number: int, schema: Any) -> "PartWriter":
        """What writes a part."""
        return PartWriter(self._folder / f"{number}.arrow", self._report(number), schema)

    def batches(self) -> Iterator[Any]:
        """The record batches of all finished parts, in order."""
        for number in range(self.finished):
            with pa.OSFile(str(self._folder / f"{number}.arrow")) as file, pa.ipc.open_stream(file) as reader:
                yield from reader

    def report(self) -> BadRows:
        """How many rows of the input are in the finished parts, and which of them are bad."""
        bad = BadRows()
        for number in range(self.finished):
            found = json.loads(self._report(number).read_text())
            part = BadRows(found["rows"])
            part.rows = found["bad"]
            part.columns = Counter({(column, reason): count for column, reason, count in found["columns"]})
            part.first = [BadRow(*fault) for fault in found["first"]]
            bad.merge(part)
        return bad

    def _report(self, number: int) -> Path:
        return self._folder / f"{number}.json"


class PartWriter:
    """Writes a part, batch by batch.

    Args:
        path: File of its rows.
        report: File of its report.
        schema: Schema of the record batches.
    """

    def __init__(self, path: Path, report: Path, schema: Any) -> None:
        self._report = report
        self._file = path.open("wb")
        self._writer = pa.ipc.new_stream(self._file, schema)
        self._bad = BadRows()

    def add(self, batch: Any, bad: BadRows) -> None:
        """Add a record batch, and which rows of the input it was made of."""
        self._writer.write_batch(batch)
        self._bad.merge(bad)

    def close(self) -> None:
        """Close the file, whose part is not finished unless `finish` was called."""
        if not self._file.closed:
            self._writer.close()
            self._file.close()

    def finish(self) -> None:
        """Write the rows to the disk, then the report."""
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        columns = [[column, reason, count] for (column, reason), count in self._bad.columns.items()]
        report = {"rows": self._bad.seen, "bad": self._bad.rows, "columns": columns, "first": self._bad.first}
        replace_file(self._report, json.dumps(report).encode())


def remove_parts(output: Path) -> None:
    """Remove the finished parts of an output."""
    shutil.rmtree(_folder(output), ignore_errors=True)


def _folder(output: Path) -> Path:
    return output.with_name(f".{output.name}.parts")
