"""The process of one run: ``python -m foveal.tuning.trial FILE.json``, a file that holds the call of ``train``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from foveal.display import Display
from foveal.errors import UserError
from foveal.records import Reading
from foveal.training.run import train


def run(path: Path) -> int:
    """Train as the file says; the exit status that a shell would give."""
    call = json.loads(path.read_text(encoding="utf-8"))
    if "reading" in call:
        told = call["reading"]
        listed = {name: tuple(told[name]) for name in ("labels", "columns")}
        call["reading"] = Reading(**{**told, **listed, "names": {int(n): name for n, name in told["names"].items()}})
    try:
        with Display() as display:
            result = train(call.pop("data"), call.pop("output"), listeners=[display], **call)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return {"SIGTERM": 143, "SIGINT": 130}.get(result.stopped, 0)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1])))
