"""What an experiment takes from its source, and whether it can: a look before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from graphufs.config.data import EMBEDDED
from graphufs.config.experiment import Experiment
from graphufs.data.manifest import Manifest
from graphufs.data.sample import check_sample
from graphufs.data.segments import costs
from graphufs.data.selection import check
from graphufs.data.source_identity import require_same_source
from graphufs.replay.experiment_source import open_at
from graphufs.replay.synthetic.outline import embedded_outline
from graphufs.replay.times import listing, text, wanted_stamps
from graphufs.storage.paths import Paths


def preflight(experiment: Experiment, root: Path) -> dict[str, Any]:
    """Look at the source and say what an experiment takes from it; nothing is written and no world is made.

    Raises
    ------
    UserError
        For everything that would go wrong: an unknown variable, a level not in the store, a period outside the record,
        a time step the stamps cannot give.
    """
    wanted = wanted_stamps(experiment)
    source = experiment.data.source
    store = embedded_outline(wanted[-1]) if source.url == EMBEDDED else open_at(experiment)
    selection = check(store, experiment)
    missing = np.setdiff1d(wanted, store.times)
    if source.url != EMBEDDED:
        folder = Paths(experiment, root).data
        manifest = Manifest.read(folder)
        if manifest is not None:
            require_same_source(manifest, folder, store, selection)
        check_sample(store, selection, np.intersect1d(wanted, store.times), experiment.data.targets)
    frame_bytes = 4 * len(selection.channels) * store.latitude.size * store.longitude.size
    return {
        "source": source.url,
        "stamps": f"{wanted.size} from {text(wanted[0])} to {text(wanted[-1])}",
        "record": f"{text(store.times[0])} to {text(store.times[-1])}",
        "grid": f"{store.latitude.size}x{store.longitude.size}",
        "levels": ", ".join(
            f"{level:g} -> {native:.7g}"
            for level, native in sorted({(c.level, c.native) for c in selection.channels if c.native is not None})
        ),
        "channels": len(selection.channels),
        "static": ", ".join(selection.static),
        "missing stamps": listing(missing) if missing.size else "none",
        "prepared size": f"{wanted.size * frame_bytes / 2**30:.2f} GiB",
        "to read": f"{wanted.size * costs(store, selection).per_stamp / 2**30:.2f} GiB decoded",
    }
