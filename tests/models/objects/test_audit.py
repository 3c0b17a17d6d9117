"""Reading objects under Python's own audit: no import, no lookup, no code, no file and no process."""

import json
import subprocess
import sys
from pathlib import Path

from tests.models.objects.support import FORMATS, labelled, write
from tests.models.objects.test_pickle_stream import calls
from tests.support import ROOT

SCRIPT = """
import codecs, json, sys
from pathlib import Path
from app.models.objects.estimator import read_estimator
from app.models.refusal import ModelRefused

contents = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]

def read_all():
    outcomes = []
    for content in contents:
        try:
            outcomes.append(read_estimator(content).class_name)
        except ModelRefused as error:
            outcomes.append(str(error))
    return outcomes

events = []
if sys.argv[2] == "warm":  # codecs and the like are imported once, as by any program
    read_estimator(contents[-1])
    codecs.lookup("raw_unicode_escape")  # of the texts of old pickles
modules = set(sys.modules)
sys.addaudithook(lambda event, arguments: events.append(event))
outcomes = read_all()
seen = sorted(set(events))
print(json.dumps({"seen": seen, "new": sorted(set(sys.modules) - modules), "outcomes": outcomes}))
"""

HARMLESS = {"builtins.id", "object.__getattr__", "object.__setattr__", "object.__delattr__", "sys._getframe"}


def test_no_event_of_python_tells_of_anything_that_a_file_asks_for(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    traps = list(calls(tmp_path / "made"))
    for index, (_, content) in enumerate(traps):
        write(files / f"{index:03}", content)
    write(files / "z", FORMATS["pickle"](labelled(["no", "yes"])))
    command = [sys.executable, "-c", SCRIPT, str(files), "warm"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=True)
    report = json.loads(done.stdout)
    assert set(report["seen"]) <= HARMLESS
    assert report["new"] == []
    assert len(report["outcomes"]) == len(traps) + 1
    assert report["outcomes"][-1] == "lightgbm.sklearn.LGBMClassifier"
    assert not (tmp_path / "made").exists()
