"""The command `graphufs catalogue`: a root's forecasts as a static STAC catalogue."""

from __future__ import annotations

import json

from graphufs.cli.ending import DONE
from graphufs.cli.models import Where
from graphufs.errors import UserError
from graphufs.storage.paths import root_folder


def catalogue(*, where: Where = Where()) -> int:
    """Write what the root holds of forecasts as a static STAC catalogue, ROOT/stac/catalog.json.

    A collection for each experiment, an item for each store of forecasts and each published initial time. `publish`
    does it too.

    Raises
    ------
    UserError
        If there is no such root.
    """
    from graphufs.products import stac

    root = root_folder(where.root)
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; name the root that has the forecasts by --root")
    made = {"catalogue": str(root / stac.FOLDER / stac.CATALOG), **stac.write(root)}
    print(json.dumps(made, indent=2) if where.json_ else f"{made['items']} items in {made['catalogue']}")
    return DONE
