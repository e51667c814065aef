"""Runs inside a GPU image: libraries that were left out though another is linked to them, as JSON.

By name, wherever they lay: packages load each other's libraries before they are asked for. What
no package has brought (drivers, ffmpeg, InfiniBand, MPI) is the host's, or of a plugin not used.
"""

import json
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

AT_ONCE = 100


def needed(libraries: list[Path]) -> dict[str, str]:
    """Name of each library that these are linked to; to one that is."""
    said = subprocess.run(
        ["readelf", "-dW", *libraries], capture_output=True, text=True, check=False
    )
    needs, current = {}, str(libraries[0])
    for line in said.stdout.splitlines():
        if line.startswith("File: "):
            current = line.removeprefix("File: ")
        elif entry := re.search(r"\(NEEDED\).*\[(.+)\]", line):
            needs[entry[1]] = current
    return needs


libraries = [path for path in Path(sys.prefix).rglob("*.so*") if path.is_file()]
brought = {Path(str(file)).name for each in distributions() for file in each.files or []}
left_out = brought - {path.name for path in libraries}
missing = {}
for start in range(0, len(libraries), AT_ONCE):
    wanted = needed(libraries[start : start + AT_ONCE])
    missing |= {name: by for name, by in wanted.items() if name in left_out}
print(json.dumps({"libraries": len(libraries), "missing": missing}))
