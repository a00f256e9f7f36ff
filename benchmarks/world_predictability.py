"""How predictable the embedded world is: how far two worlds part in five days that differ by almost nothing.

    python benchmarks/world_predictability.py                     # they begin with an error
    python benchmarks/world_predictability.py --amplitude 0.5     # they begin alike, with other random physics

Without an amplitude, random vorticity of wavenumbers 3 to 12 is added to the second world's state, by default so much
that both differ as the emulator of demo_hourly differs from the truth after 6 hours. With one, both have stochastic
physics of that amplitude (graphufs.replay.synthetic.stochastic), of two seeds. The first world goes on from start to
start, five days apart, from its beginning; the second begins anew with each. Printed is the root mean square of
the difference over the globe and all starts. Worlds of which one is a forecast of the other have an error that large;
the best forecast of a world with random physics, which is the mean of all that may come, one smaller by sqrt(2).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from graphufs.config.data import StochasticPhysics
from graphufs.replay.synthetic import start
from graphufs.replay.synthetic.replay_layout import STAMP
from graphufs.replay.synthetic.world import IdealisedWorld, WorldState, arithmetic, shared_model

FIELDS = {
    "pressfc [Pa]": ("pressfc", None),
    "ugrd10m [m/s]": ("ugrd10m", None),
    "vgrd10m [m/s]": ("vgrd10m", None),
    "tmp 105 hPa [K]": ("tmp", 1),
    "tmp 525 hPa [K]": ("tmp", 4),
    "tmp 955 hPa [K]": ("tmp", 7),
}
"""What the demo predicts: by name, the variable and its layer from the top."""
STAMPS = 20
LEADS = (1, 4, 8, 12, 20)
"""In stamps of six hours."""


def fields_after(
    world: IdealisedWorld, state: WorldState, time: np.datetime64
) -> tuple[WorldState, NDArray[np.float64]]:
    """The state five days later, and the fields on the way, [stamp, field, lon, lat]."""
    after, made = world.run(state, time, STAMPS)
    chosen = [made[name] if layer is None else made[name][:, layer] for name, layer in FIELDS.values()]
    return after, np.stack([np.asarray(field, np.float64) for field in chosen], axis=1)


def parted(amplitude: float, vorticity: float, starts: int, hours: int) -> NDArray[np.float64]:
    """The root mean square of the difference, [stamp, field]."""
    one = shared_model(hours, StochasticPhysics(amplitude=amplitude))
    other = shared_model(hours, StochasticPhysics(amplitude=amplitude, seed=1)) if amplitude else one
    generator, squares = np.random.default_rng(5), np.zeros((STAMPS, len(FIELDS)))
    state, time = one.begin(start.spun_up_state()), start.START
    area = np.asarray(one.area, np.float64)
    for _ in range(starts):
        twin = state
        if not amplitude:
            dynamics = state.dynamics
            noise = one.random_vorticity(generator, vorticity)
            twin = dataclasses.replace(state, dynamics=dynamics.replace(vorticity=dynamics.vorticity + noise))
        after, truth = fields_after(one, state, time)
        squares += ((fields_after(other, twin, time)[1] - truth) ** 2 * area).sum(axis=(-2, -1)) / area.sum()
        state, time = after, time + STAMPS * STAMP
    return np.sqrt(squares / starts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--amplitude", type=float, default=0.0, help="of the stochastic physics")
    parser.add_argument("--vorticity", type=float, default=1e-3, help="of the error, in units of 2 Omega")
    parser.add_argument("--starts", type=int, default=8)
    parser.add_argument("--step", type=int, choices=(1, 2), default=1, help="hours, of the world")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with arithmetic():
        found = parted(options.amplitude, options.vorticity, options.starts, options.step)
    table = Table("lead", *FIELDS, title=f"two worlds part, {options.starts} starts")
    for lead in LEADS:
        table.add_row(f"{6 * lead} h", *(f"{value:.3g}" for value in found[lead - 1]))
    Console(width=110).print(table)
    if options.json:
        chosen = {
            f"{6 * lead}h": dict(zip(FIELDS, np.round(found[lead - 1], 4).tolist(), strict=True)) for lead in LEADS
        }
        settings = {key: getattr(options, key) for key in ("amplitude", "vorticity", "starts", "step")}
        options.json.write_text(json.dumps({**settings, "rms_difference": chosen}, indent=2) + "\n")


if __name__ == "__main__":
    main()
