"""`ensure_world`: the embedded world's Replay-like store, made as far as it is needed and extended later.

The folder of a world holds `fv3.zarr`, `world.json` (what made it), `state-NNNNN.npz` (the model after the last
committed block, from which it goes on), `checksums.json` (of chunks and state) and `.lock`.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphufs.config.data import World
from graphufs.config.identity import whole_content
from graphufs.errors import Stopped, UserError
from graphufs.replay.synthetic.growing_zarr import METADATA, GrowingZarr, committed_length, show
from graphufs.replay.synthetic.replay_layout import ARRAYS, STAMP, WORLD_START, block_values, static_values
from graphufs.steps import Event, Progress, ShouldStop, never_stop, no_progress
from graphufs.storage.atomic import remove_folder, write_bytes
from graphufs.storage.checksums import (
    CHECKSUMS,
    checked_text,
    forget_files,
    growing_damage,
    is_checked,
    note_files,
    read_checked,
)
from graphufs.storage.lock import locked
from graphufs.storage.zarr_io import store_damage

if TYPE_CHECKING:
    from graphufs.replay.synthetic.world import IdealisedWorld, WorldState

STORE = "fv3.zarr"
NOTE = "world.json"
BLOCK = 40
"""Stamps in a block (ten days): the unit of work, of commits and of the store's chunks."""

TITLE = "An idealised world in the layout of UFS Replay"
DESCRIPTION = (
    "Output of an idealised general circulation model (the dinosaur dynamical core at T21 with eight sigma levels and "
    "simple physics), laid out and named as UFS Replay. It is not weather of any date, and skill measured on it is "
    "not weather skill. pfull is sigma times 1000 hPa at the layers' centres."
)
LARGEST_MASS_DRIFT = 20.0
"""Departure of the global mean surface pressure [Pa] that no sound world shows."""

LARGEST_WIND = 200.0
"""Wind [m/s] that no sound world shows."""


def ensure_world(
    folder: Path,
    world: World,
    until: np.datetime64,
    *,
    exact: bool = False,
    progress: Progress = no_progress,
    should_stop: ShouldStop = never_stop,
) -> Path:
    """Make or extend the store of a world so that it holds the stamps from WORLD_START to `until` at least; its path.

    It is computed in whole blocks of ten days, each committed at once: a process killed at any moment loses at most the
    block it was working on, and calling again gives the store an undisturbed call gives, bit for bit (with the same
    package versions on the same kind of processor). Several processes may call at once; one works, the others wait.
    JAX is imported only if there is something to compute. Stopping is possible between blocks. Where the store has to
    grow, `exact` shows readers the stamps up to `until` only; else they see all of the last block. A damaged world is
    made again.

    Raises
    ------
    UserError
        If `until` lies before WORLD_START, if the folder holds another world, if it is damaged and other versions of
        the packages made it, or if the model became unstable.
    Stopped
        If `should_stop` turned true. All finished blocks are committed.
    """
    if until < WORLD_START:
        raise UserError(
            f"the embedded world begins at {WORLD_START}, but a period ends at {until}; choose periods after the start"
        )
    stamps = -int((WORLD_START - until) // STAMP) + 1
    store = folder / STORE
    noted = _noted(folder)
    if noted is not None:
        _check_same_world(folder, world)
    if noted is None or committed_length(store) < stamps or world_damage(folder):
        waiting = Event("waiting for another process that makes the same world", 0, 1)
        tell = _Told(store, stamps, progress)

        def stop() -> bool:
            tell()
            return should_stop()

        with locked(folder, should_stop=stop, waiting=lambda: progress(waiting)):
            _restore_note(folder)
            _check_same_world(folder, world)
            there = committed_length(store)
            if damage := world_damage(folder):
                _remove_damaged(folder, world, damage)
                progress(Event("making the damaged embedded world again", 0, 1))
            if committed_length(store) < max(stamps, there):
                wanted = stamps if exact else _blocks(stamps) * BLOCK
                _extend(folder, world, max(wanted, there), progress, should_stop)
    return store


class _Told:
    """Tells how far another process has come with a store of which `stamps` are wanted, when that changes."""

    def __init__(self, store: Path, stamps: int, progress: Progress) -> None:
        self.store, self.stamps, self.progress = store, stamps, progress
        self.there = 0

    def __call__(self) -> None:
        there = committed_length(self.store)
        if there != self.there:
            self.there = there
            days, wanted = (float(one * STAMP / np.timedelta64(1, "D")) for one in (there, max(self.stamps, there)))
            self.progress(Event("embedded world, which another process makes", days, wanted, "simulated days"))


def world_damage(folder: Path) -> str | None:
    """What is wrong with the committed part of a world, or None; None too where nothing was committed yet."""
    if not committed_length(folder / STORE):
        begun = (folder / STORE / METADATA).exists() or (folder / CHECKSUMS).exists()
        return f"{folder / STORE / METADATA} is missing or damaged" if begun else None
    damage = growing_damage(folder, promised=is_checked(folder / NOTE))
    return next(iter(damage), None) or store_damage(folder / STORE)


def _remove_damaged(folder: Path, world: World, damage: str) -> None:
    """Take away a world that is damaged, if what is made in its place is the same."""
    try:
        before, now = read_checked(folder / NOTE)["versions"], _provenance(world)["versions"]
        del now["graphufs"]  # FORMATS["world"] is raised when our code makes another world
        changed = [f"{name} {before.get(name)} then, {now[name]} now" for name in now if before.get(name) != now[name]]
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"the embedded world in {folder} is damaged ({damage}; {error!r}); remove {folder}") from None
    if changed:
        raise UserError(
            f"the embedded world in {folder} is damaged ({damage}), and other versions made it ({', '.join(changed)}): "
            "made again, it would be other weather than what was prepared from it. Restore the file from a copy; or "
            f"remove {folder} and the prepared data of this experiment, and start anew"
        )
    for leftover in folder.glob(f".{STORE}.*.trash"):
        shutil.rmtree(leftover)
    remove_folder(folder / STORE)
    for path in (folder / CHECKSUMS, *folder.glob("state-*.npz")):
        path.unlink(missing_ok=True)


def present(folder: Path) -> np.datetime64 | None:
    """The last stamp of the world's store that readers see; None where there is no store."""
    length = committed_length(folder / STORE)
    return WORLD_START + (length - 1) * STAMP if length else None


def _blocks(stamps: int) -> int:
    """How many blocks hold so many stamps."""
    return -(-stamps // BLOCK)


def _extend(folder: Path, configuration: World, stamps: int, progress: Progress, should_stop: ShouldStop) -> None:
    """Commit the store's first `stamps` stamps, after computing the missing blocks."""
    done, wanted = _blocks(committed_length(folder / STORE)), _blocks(stamps)
    if done == wanted:  # its chunks are there already, more of them than readers see
        show(folder / STORE, stamps)
        return
    from graphufs.replay.synthetic.start import START, initial_state
    from graphufs.replay.synthetic.world import arithmetic, shared_model

    provenance = _provenance(configuration)
    _claim(folder, configuration, provenance)
    with arithmetic():
        model = shared_model(configuration.step, configuration.stochastic)
        state = _load_state(folder, done) if done else initial_state(model, configuration.seed)
        longitudes, latitudes = model.geometry.land.shape
        sizes = {"pfull": model.geometry.sigma.size, "grid_yt": latitudes, "grid_xt": longitudes}
        store = GrowingZarr(folder / STORE, ARRAYS, sizes, BLOCK, _attributes(provenance))
        days = float(BLOCK * STAMP / np.timedelta64(1, "D"))
        ahead = None
        for block in range(done, wanted):
            if should_stop():
                raise Stopped(f"stopped after {block * days:.0f} days of the embedded world; they are kept")
            progress(Event("embedded world", block * days, wanted * days, "simulated days"))
            state, fields = ahead or model.run(state, START + block * BLOCK * STAMP, BLOCK)
            if block + 1 < wanted:  # JAX computes it beside, while this one is written
                ahead = model.run(state, START + (block + 1) * BLOCK * STAMP, BLOCK)
            shown = min(stamps, (block + 1) * BLOCK)
            _write_block(folder, store, model, block, state, {name: np.asarray(x) for name, x in fields.items()}, shown)
        progress(Event("embedded world", wanted * days, wanted * days, "simulated days"))


def _write_block(
    folder: Path,
    store: GrowingZarr,
    model: IdealisedWorld,
    block: int,
    state: WorldState,
    fields: dict[str, NDArray[np.float32]],
    shown: int,
) -> None:
    """Write a block, then the state it ends with, then commit `shown` stamps; drop the states of before."""
    geometry = model.geometry
    _check(block, fields, model.area, model.mean_surface_pressure)
    fields["hgtsfc"] = np.broadcast_to(geometry.height, fields["pressfc"].shape)
    values = block_values(block * BLOCK, fields)
    if block == 0:
        longitude, latitude = model.axes
        pressure = geometry.sigma.ravel() * 1000
        values |= static_values(longitude, latitude, pressure, geometry.land, geometry.height)
    end = _state_file(folder, block + 1)
    names = [*(f"{STORE}/{name}" for name in store.chunks(block)), end.name]
    forget_files(folder, names)  # of an attempt that was killed, maybe with other versions of the packages
    store.write_block(block, values)
    buffer = io.BytesIO()
    state.save(buffer)
    write_bytes(end, buffer.getvalue(), alone=True)
    earlier = [path for path in folder.glob("state-*.npz") if path != end]
    note_files(folder, names, instead_of=[path.name for path in earlier])
    store.commit(shown)
    for path in earlier:
        path.unlink()


def _check(block: int, fields: dict[str, NDArray[np.float32]], area: NDArray[np.float32], mass: float) -> None:
    """Raise UserError if a block is not physical: an unstable model must not become training data."""
    when = f"days {block * BLOCK // 4} to {(block + 1) * BLOCK // 4} of the embedded world"
    advice = "choose another data.source.world.seed, and please report it"
    broken = sorted(name for name, values in fields.items() if not np.isfinite(values).all())
    if broken:
        raise UserError(f"{', '.join(broken)} is not finite everywhere within {when}; {advice}")
    drift = float(np.abs((fields["pressfc"].astype(np.float64) * area).sum(axis=(1, 2)) - mass).max())
    if drift > LARGEST_MASS_DRIFT:
        raise UserError(
            f"the mean surface pressure is off by {drift:.1f} Pa within {when}, more than {LARGEST_MASS_DRIFT} Pa; "
            f"{advice}"
        )
    wind = float(max(np.abs(fields["ugrd"]).max(), np.abs(fields["vgrd"]).max()))
    if wind > LARGEST_WIND:
        raise UserError(f"winds reach {wind:.0f} m/s within {when}, more than {LARGEST_WIND:.0f} m/s; {advice}")


def _state_file(folder: Path, blocks: int) -> Path:
    return folder / f"state-{blocks:05d}.npz"


def _load_state(folder: Path, blocks: int) -> WorldState:
    from graphufs.replay.synthetic.world import WorldState

    path = _state_file(folder, blocks)
    try:
        with path.open("rb") as file:
            return WorldState.load(file)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path} cannot be read ({error}), so the world cannot go on from there; remove {folder} to make it anew"
        ) from error


def _provenance(configuration: World) -> dict[str, Any]:
    """Tell what made a world: its configuration and the versions of the packages that compute it."""
    packages = ("graphufs", "dinosaur", "jax", "jaxlib", "numpy")
    return {
        "world": whole_content(configuration),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def _attributes(provenance: dict[str, Any]) -> dict[str, Any]:
    """Return the store's own attributes."""
    return {
        "title": TITLE,
        "description": DESCRIPTION,
        "source": "graphufs.replay.synthetic",
        "configuration": json.dumps(provenance["world"], sort_keys=True),
        "versions": json.dumps(provenance["versions"], sort_keys=True),
    }


def _check_same_world(folder: Path, configuration: World) -> None:
    path, made = folder / NOTE, _noted(folder)
    if made is None and path.exists():
        raise UserError(f"{path} is damaged; remove it, and what is made says again what it is")
    if made is not None and made != whole_content(configuration):
        raise UserError(
            f"{folder} holds the world {made}, not {whole_content(configuration)}; choose another folder "
            "or remove this one"
        )


def _noted(folder: Path) -> Any:
    """What world a folder says that it holds; None where it does not say it, or cannot be read."""
    try:
        return read_checked(folder / NOTE)["world"]
    except (OSError, ValueError, KeyError):
        return None


def _claim(folder: Path, configuration: World, provenance: dict[str, Any]) -> None:
    """Note in world.json what makes the world, or refuse to go on with another one."""
    _check_same_world(folder, configuration)
    if not (folder / NOTE).exists():
        _write_note(folder, provenance)


def _restore_note(folder: Path) -> None:
    """Write world.json again where it is lost or damaged, from the store's own attributes, which say the same."""
    if _noted(folder) is not None:
        return
    try:
        attributes = read_checked(folder / STORE / METADATA)["metadata"][".zattrs"]
        said = {"world": json.loads(attributes["configuration"]), "versions": json.loads(attributes["versions"])}
    except (OSError, KeyError, ValueError, TypeError):  # no store, or a damaged one
        return
    _write_note(folder, said)


def _write_note(folder: Path, provenance: dict[str, Any]) -> None:
    """Write world.json; with a checksum of its own it says that the folder has a list of checksums, too."""
    content = {"title": TITLE, "description": DESCRIPTION, **provenance}
    promises = (folder / CHECKSUMS).exists() or not committed_length(folder / STORE)
    text = checked_text(content) if promises else json.dumps(content, indent=1)
    write_bytes(folder / NOTE, text.encode(), alone=True)
