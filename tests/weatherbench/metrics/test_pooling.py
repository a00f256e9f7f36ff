"""Pooled fields: what boxes hold, what they weigh, and that their CRPS sees what single points do not."""

from __future__ import annotations

import numpy as np

from graphufs.grid.areas import cell_weights
from graphufs.grid.grid import Grid
from graphufs.weatherbench.metrics.ensemble import SKILL, SPREAD, MemberRules
from graphufs.weatherbench.metrics.ensemble_metrics import POOLINGS
from graphufs.weatherbench.metrics.pooling import Boxes

GRID = Grid(np.linspace(-84, 84, 15), np.arange(0, 360, 12.0))  # boxes of 2 x 2, the last row alone
AREA = cell_weights(GRID.latitude, 30, None, "WeatherBench2")


def test_boxes_hold_the_weighted_mean_and_the_largest_value() -> None:
    fields = np.random.default_rng(0).normal(size=(3, 15, 30)).astype(np.float32)
    boxes = Boxes(GRID, AREA, AREA[None])
    mean, largest = (boxes(fields)[how] for how in POOLINGS)
    assert mean.shape == largest.shape == (3, 8, 15)
    np.testing.assert_allclose(mean[1, 2, 3], np.average(fields[1, 4:6, 6:8], weights=AREA[4:6, 6:8]), rtol=1e-5)
    assert largest[1, 2, 3] == fields[1, 4:6, 6:8].max()
    np.testing.assert_allclose(
        boxes.mean(mean.astype(np.float64))[:, 0], (fields * AREA).sum((1, 2)) / AREA.sum(), rtol=1e-4, atol=1e-6
    )


def test_points_of_no_box_do_not_matter() -> None:
    fields = np.ones((15, 30), np.float32)
    area = AREA.copy()
    area[:4] = area[4, 5] = 0
    fields[:4], fields[4, 5] = np.nan, 9
    boxes = Boxes(GRID, area, area[None])
    for how in POOLINGS:
        np.testing.assert_allclose(boxes.mean(boxes(fields)[how].astype(np.float64)), 1, rtol=1e-6)


def test_a_missing_point_makes_its_box_missing() -> None:
    fields = np.ones((15, 30), np.float32)
    fields[4, 5] = np.nan
    for how, pooled in Boxes(GRID, AREA, AREA[None])(fields).items():
        assert np.argwhere(np.isnan(pooled)).tolist() == [[2, 2]], how


def test_members_without_connection_in_space_score_worse() -> None:
    """Both ensembles are calibrated at each point; the truth varies from box to box only."""
    rng, leads = np.random.default_rng(1), 30

    def smooth(members: int) -> np.ndarray:
        coarse = rng.normal(size=(leads, members, 8, 15)).astype(np.float32)
        return np.repeat(np.repeat(coarse, 2, axis=2), 2, axis=3)[:, :, :15]

    boxes, nothing = Boxes(GRID, AREA, AREA[None]), np.zeros((leads, 0, 8, 15))
    truth = boxes(smooth(1))["mean"]
    found = []
    for members in (smooth(8), rng.normal(size=(leads, 8, 15, 30)).astype(np.float32)):
        pooled = boxes(members[:, :, None])["mean"]
        fields = boxes.mean.of_members(pooled, truth, nothing, 0, MemberRules(energy=False)).fields
        found.append(float((fields[SKILL] - fields[SPREAD] / 2).mean()))
    # sqrt(1/pi) against sqrt(2 (1 + 1/4) / pi) - sqrt(1/4 / pi), where four points make a box
    np.testing.assert_allclose(found[0], 0.564, rtol=0.04)
    assert found[0] < 0.96 * found[1]
