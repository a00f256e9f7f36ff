"""Where a world begins: the spun-up state that ships with the package, and other weather for other seeds.

`python -m graphufs.replay.synthetic.start` makes the shipped file anew (about a CPU-minute): a spin-up from rest
through the year 1993, from which the world of seed 0 goes on.
"""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path

import numpy as np

from graphufs.replay.synthetic.replay_layout import STAMP, WORLD_START
from graphufs.replay.synthetic.world import IdealisedWorld, WorldState, arithmetic

START = WORLD_START - STAMP
"""The time the spun-up state is valid at: the first stamp's means need the hours before it."""

STATE_FILE = "spun_up.npz"
SPIN_UP_START = np.datetime64("1993-01-05T12", "h")
STAMPS_PER_RUN = 40
"""As many as a block of the store, so that both share one compilation."""

RUN_LENGTH = STAMPS_PER_RUN * STAMP
SEED_SPIN_UP_RUNS = 2
SEED_AMPLITUDE = 2e-2
"""Spectral vorticity of the random disturbance in units of 2 Omega: as much as the weather itself has."""


def initial_state(world: IdealisedWorld, seed: int) -> WorldState:
    """Return the state at START of the world with this seed.

    Seed 0 is the spun-up state itself. Another seed adds random vorticity as large as the weather's to it, and runs
    the 20 days up to START; a small disturbance would take months to grow here. After that, two seeds have no more
    in common than two instants 20 days apart in one world: the mean absolute correlation of their anomalies over the
    middle latitudes is 0.14 (surface pressure), 0.13 (temperature at 525 hPa) and 0.09 (zonal wind there), against
    0.14, 0.11 and 0.11 (9 seeds, 10 instants). Strongest winds and pressure anomalies are the usual ones again.
    """
    state = world.begin(spun_up_state())
    if seed == 0:
        return state
    disturbance = world.random_vorticity(np.random.default_rng(seed), SEED_AMPLITUDE)
    dynamics = state.dynamics.replace(vorticity=state.dynamics.vorticity + disturbance)
    state = dataclasses.replace(state, dynamics=dynamics)
    return _run_until_start(world, state, START - SEED_SPIN_UP_RUNS * RUN_LENGTH)


def spun_up_state() -> WorldState:
    """Load the state that ships with the package."""
    with (resources.files(__package__) / STATE_FILE).open("rb") as file:
        return WorldState.load(file)


def spin_up(world: IdealisedWorld, seed: int) -> WorldState:
    """Return the state at START after a spin-up from rest."""
    return _run_until_start(world, world.cold_start(SPIN_UP_START, seed), SPIN_UP_START)


def _run_until_start(world: IdealisedWorld, state: WorldState, time: np.datetime64) -> WorldState:
    while time < START:
        state, _ = world.run(state, time, STAMPS_PER_RUN)
        time = time + RUN_LENGTH
    return state


def main() -> None:
    """Write the state file into the package's folder."""
    with arithmetic(), Path(__file__).with_name(STATE_FILE).open("wb") as file:
        spin_up(IdealisedWorld(), seed=0).save(file)


if __name__ == "__main__":
    main()
