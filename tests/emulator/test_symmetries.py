"""Samples moved by the globe's symmetries: what moves, what changes sign, which grids have them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from graphufs.config import loading
from graphufs.config.training import Augmentation
from graphufs.emulator import symmetries
from graphufs.emulator.symmetries import Moves
from graphufs.errors import UserError
from graphufs.forcings import derived_forcing
from graphufs.vocabulary import mirror
from tests.conftest import TINY

BOTH = Augmentation(rotate_longitude=True, mirror=True)
LATITUDE, LONGITUDE = np.linspace(-90, 90, 5), np.arange(8) * 45.0


def test_fields_turn_and_are_mirrored_sample_by_sample() -> None:
    fields = {
        name: np.random.default_rng(number).normal(size=shape).astype(np.float32)
        for number, (name, shape) in enumerate(
            {
                "tmp": (2, 3, 2, 5, 8),
                "vgrd": (2, 3, 2, 5, 8),
                "land_static": (1, 1, 1, 5, 8),
                "day_progress_sin": (2, 3, 1, 1, 8),
                "year_progress_sin": (2, 3, 1, 1, 1),
            }.items()
        )
    }
    moved = symmetries.move(fields, Moves(jnp.array([3, 1]), jnp.array([False, True])))
    for name, values in fields.items():
        first, second = values[0], values[-1]
        sign = -1 if name in ("vgrd", "year_progress_sin") else 1
        wide = values.shape[-1] > 1
        np.testing.assert_array_equal(moved[name][0], np.roll(first, 3, axis=-1) if wide else first)
        np.testing.assert_array_equal(
            moved[name][1], sign * (np.roll(second, 1, axis=-1) if wide else second)[..., ::-1, :]
        )


def test_a_turn_of_the_forcings_is_another_hour_and_a_mirror_another_season() -> None:
    stamps = np.array(["2026-01-01T00", "2026-01-01T06", "2026-07-02T14:54"], dtype="datetime64[ns]")
    names = ("toa_incident_solar_radiation", "day_progress_sin", "day_progress_cos", "year_progress_cos")
    fields = {name: derived_forcing(name, stamps, LATITUDE, LONGITUDE)[None] for name in names}
    turned = symmetries.move(fields, Moves(jnp.array([6]), jnp.array([False])))  # 90 degrees to the west: 6 hours on
    for name in names[:3]:
        size = np.abs(fields[name]).max()
        np.testing.assert_allclose(turned[name][0, 0] / size, fields[name][0, 1] / size, atol=2e-3)
    mirrored = symmetries.move(fields, Moves(jnp.array([0]), jnp.array([True])))
    np.testing.assert_allclose(mirrored["year_progress_cos"][0, 0], fields["year_progress_cos"][0, 2], atol=1e-3)


def test_moves_are_a_function_of_seed_and_update() -> None:
    def turns(settings: Augmentation, seed: int, update: int) -> tuple[list[int], list[bool]]:
        moves = symmetries.draw(settings, np.uint32(seed), np.int32(update), 1000, 8)
        return moves.turns.tolist(), moves.mirrored.tolist()

    assert turns(BOTH, 1, 5) == turns(BOTH, 1, 5)
    assert turns(BOTH, 1, 5) != turns(BOTH, 1, 6) and turns(BOTH, 1, 5) != turns(BOTH, 2, 5)
    drawn, mirrored = turns(BOTH, 1, 5)
    assert np.bincount(drawn, minlength=8).min() > 80 and 400 < sum(mirrored) < 600
    assert set(turns(Augmentation(mirror=True), 1, 5)[0]) == {0}
    assert not any(turns(Augmentation(rotate_longitude=True), 1, 5)[1])


@pytest.mark.parametrize(
    ("settings", "latitude", "longitude", "masks", "words"),
    [
        (BOTH, LATITUDE, LONGITUDE[:-1], {}, "7 longitudes, 0 to 270, do not go round the globe"),
        (BOTH, LATITUDE[:-1], LONGITUDE, {}, "4 latitudes, -90 to 45, are not the same on both sides"),
        (BOTH, LATITUDE, LONGITUDE, {"so": np.zeros(1)}, "so does not exist everywhere"),
    ],
)
def test_a_grid_without_the_symmetry_is_refused(
    settings: Augmentation, latitude: np.ndarray, longitude: np.ndarray, masks: dict[str, np.ndarray], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        symmetries.check(settings, latitude, longitude, masks)


def test_a_grid_that_has_it_or_needs_none_is_not() -> None:
    symmetries.check(BOTH, LATITUDE[::-1], LONGITUDE + 1, {})
    symmetries.check(Augmentation(rotate_longitude=True), LATITUDE[:-1], LONGITUDE, {})
    symmetries.check(Augmentation(), LATITUDE[:-1], LONGITUDE[:-1], {"so": np.zeros(1)})


def test_both_sides_names_change_sign_alike() -> None:
    assert all(map(mirror.changes_sign, ("vgrd", "v_component_of_wind", "vgrd10m", "10m_v_component_of_wind")))
    assert not any(map(mirror.changes_sign, ("ugrd", "u_component_of_wind", "tmp", "toa_incident_solar_radiation")))
    assert mirror.unknown(mirror.CHANGE_SIGN) == []


def test_a_variable_whose_mirror_image_is_unknown_is_refused() -> None:
    strange = ["training.augmentation.mirror=true", "data.targets=[pressfc, tmp, reflectivity]"]
    with pytest.raises(UserError, match=r"whether reflectivity changes sign .* is not known; leave mirror out"):
        loading.load(TINY, strange)
