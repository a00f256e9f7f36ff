"""Commands of this project run by another account of this machine, which has no rights of the one that runs the tests.

The Python of the tests may lie where others may not go. So the other account has its own view of the file system, in
which the folders above are empty but for what leads there.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
UID = 65534
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
UNSHARE = shutil.which("unshare", path=PATH) or "unshare"
NEEDED = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), TOP}


def _closed(path: Path) -> Path | None:
    """The first folder above that others may not pass through."""
    return next((above for above in reversed(path.parents) if not above.stat().st_mode & 0o001), None)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the other account, in a folder that it may enter; skips the test where nobody may do that."""
    hidden: dict[Path, list[Path]] = {}
    for path in sorted(NEEDED):
        if (above := _closed(path)) is not None:
            hidden.setdefault(above, []).append(path)
    lines = ["set -e"]
    for number, (above, paths) in enumerate(hidden.items()):
        holds = {path: folder / f"hold-{number}-{place}" for place, path in enumerate(paths)}
        lines += [f"mkdir {hold}; mount --bind {shlex.quote(str(path))} {hold}" for path, hold in holds.items()]
        lines += [f"mount -t tmpfs -o mode=755 none {shlex.quote(str(above))}"]
        lines += [
            f"mkdir -p {shlex.quote(str(p))}; mount --bind {hold} {shlex.quote(str(p))}" for p, hold in holds.items()
        ]
    lines += [f'exec setpriv --reuid {UID} --regid {UID} --clear-groups -- "$@"']
    environment = {"PATH": PATH, "PYTHONPATH": str(TOP), "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    if os.geteuid() or subprocess.run([UNSHARE, "--mount", "/bin/true"], capture_output=True, check=False).returncode:
        pytest.skip("only root may act as another account")
    return subprocess.run(
        [UNSHARE, "--mount", "/bin/bash", "-c", "\n".join(lines), "bash", *command],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
