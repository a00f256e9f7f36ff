"""Starting the process that compiles ahead, in an environment that has CUDA's compiler: this one, or .venv-cuda."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from graphufs.config import loading
from graphufs.config.experiment import Experiment
from graphufs.emulator.domain import Domain
from graphufs.errors import UserError
from graphufs.plan.target import COMPILING

PLUGIN = "jax_cuda12_plugin"
REPOSITORY = Path(__file__).parents[2]


def python_with_cuda() -> Path | None:
    """The Python to compile with: this one where it has CUDA's plugin, else that of `make setup-cuda`."""
    if importlib.util.find_spec(PLUGIN) is not None:
        return Path(sys.executable)
    there = any((REPOSITORY / ".venv-cuda").glob(f"lib/python*/site-packages/{PLUGIN}"))
    return REPOSITORY / ".venv-cuda" / "bin" / "python" if there else None


def compile_in_child(
    python: Path, experiment: Experiment, domain: Domain, tell: Callable[[str], None], **request: Any
) -> dict[str, Any]:
    """What `graphufs.plan.compile_ahead` finds; `request` is what it asks for besides the experiment and its domain.

    Raises
    ------
    UserError
        If the process was killed, as by a system short of memory.
    RuntimeError
        If it failed.
    """
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    environment |= COMPILING | {"PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.getenv("PYTHONPATH")]))}
    with tempfile.TemporaryDirectory(prefix="graphufs-plan-") as temporary:
        folder = Path(temporary)
        (folder / "request.json").write_text(json.dumps({"experiment": loading.dump(experiment), **request}))
        np.savez(folder / "domain.npz", **domain.arrays())  # type: ignore[arg-type]
        command = [str(python), "-m", "graphufs.plan.compile_ahead", str(folder)]
        result = None
        with (
            (folder / "stderr").open("w+") as said,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment) as child,
        ):
            assert child.stdout is not None
            try:
                for line in child.stdout:
                    if line.startswith("{"):
                        content = json.loads(line)
                        result = content.get("result", result)
                        if "doing" in content:
                            tell(content["doing"])
            except BaseException:
                child.kill()
                raise
            code = child.wait()
            said.seek(0)
            last = [line for line in said.read().splitlines() if line.strip()][-1:]
        if code < 0:
            raise UserError(
                f"the process that compiles was ended by signal {-code}, as happens where memory runs out; use a "
                "machine with more, or a smaller experiment"
            )
        if code or result is None:
            raise RuntimeError(f"compiling ahead ended with code {code}: {last[0] if last else 'nothing was said'}")
    return dict(result)
