"""Where a world begins: the spun-up state that ships with the package, and other weather for other seeds.

`python -m graphufs.replay.synthetic.start` makes the shipped file anew (about a CPU-minute): a year of spin-up from
rest to the end of 1993, from which seed 0 goes on.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from graphufs.replay.synthetic.world import IdealisedWorld, WorldState, arithmetic

STATE_FILE = "spun_up_1993-12-31T12.npz"
START = np.datetime64("1993-12-31T12", "h")
"""The time the spun-up state is valid at, six hours before the first stamp."""

SPIN_UP_START = np.datetime64("1993-01-05T12", "h")
STAMPS_PER_RUN = 40
"""As many as a block of the store, so that both share one compilation."""

RUN_LENGTH = np.timedelta64(6 * STAMPS_PER_RUN, "h")
ADJUSTMENT_RUNS = 2


def spun_up_state() -> WorldState:
    """The state that ships with the package."""
    with (resources.files(__package__) / STATE_FILE).open("rb") as file, np.load(file) as arrays:
        return WorldState.from_arrays(dict(arrays))


def initial_state(world: IdealisedWorld, seed: int) -> WorldState:
    """The state at START of the world with this seed."""
    state = spun_up_state()
    if seed == 0:
        return state
    raise NotImplementedError


def spin_up(world: IdealisedWorld, seed: int) -> WorldState:
    """The state at START after a spin-up from rest."""
    time, state = SPIN_UP_START, world.cold_start(SPIN_UP_START, seed)
    while time < START:
        state, _ = world.run(state, time, STAMPS_PER_RUN)
        time += RUN_LENGTH
    return state


def main() -> None:
    """Write the state file into the package's folder."""
    with arithmetic():
        arrays = spin_up(IdealisedWorld(), seed=0).as_arrays()
    np.savez(Path(__file__).parent / STATE_FILE, **arrays)


if __name__ == "__main__":
    main()
