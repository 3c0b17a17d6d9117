"""PSI, Jensen-Shannon and KS: worked by hand, beside scipy's, and at the ends of what can be counted."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp

from app.drift.bins import bins_of_features
from app.drift.limits import LEAST_SHARE
from app.drift.statistics import Shifts, jensen_shannon, psi, psi_by_chance, shifts
from tests.drift.rows import FEATURES, Array, profile_of, rows_of

REFERENCE = rows_of(4000)
PROFILE = profile_of(REFERENCE)
BINS = bins_of_features(PROFILE, FEATURES)
SIZE, COLOUR, ALWAYS = range(3)


def shifts_of(rows: Array) -> Shifts:
    return shifts(BINS, BINS.binned(BINS.count(rows), len(rows)), PROFILE.rows)


def test_psi_by_hand() -> None:
    expected, actual = np.array([[0.5, 0.5, 0.0]]), np.array([[0.25, 0.7, 0.05]])
    by_hand = -0.25 * math.log(0.5) + 0.2 * math.log(1.4) + (0.05 - LEAST_SHARE) * math.log(0.05 / LEAST_SHARE)
    assert psi(expected, actual)[0] == pytest.approx(by_hand)
    assert psi(expected, expected)[0] == 0
    assert psi_by_chance(expected, actual, 4000, 500)[0] == pytest.approx(2 * (1 / 500 + 1 / 4000))
    assert psi_by_chance(expected, expected, 4000, 500)[0] == pytest.approx(1 / 500 + 1 / 4000)


def test_cells_that_are_rare_on_both_sides_add_nothing() -> None:
    rare = LEAST_SHARE / 2
    assert psi(np.array([[1.0, 0.0, rare]]), np.array([[1.0, rare, 0.0]]))[0] == 0


def test_psi_without_a_shift_is_what_chance_gives() -> None:
    found = [shifts_of(rows_of(500, seed=seed)) for seed in range(100, 160)]
    mean, expected = np.mean([each.psi for each in found], axis=0), found[0].by_chance
    np.testing.assert_allclose(mean[: COLOUR + 1], expected[: COLOUR + 1], rtol=0.25)
    assert mean[ALWAYS] == 0


def test_jensen_shannon_is_scipys() -> None:
    random = np.random.default_rng(0)
    p, q = random.dirichlet(np.ones(21), size=5), random.dirichlet(np.ones(21), size=5)
    p[0, :5] = 0
    p[0] /= p[0].sum()
    np.testing.assert_allclose(jensen_shannon(p, q), [jensenshannon(a, b, 2) ** 2 for a, b in zip(p, q, strict=True)])
    assert jensen_shannon(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))[0] == 1


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.3, 10.0, 1e9, -1.0])
def test_ks_is_scipys_to_half_a_bin(factor: float) -> None:
    rows = rows_of(900, seed=5)
    rows[:, SIZE] *= factor
    exact = ks_2samp(REFERENCE[:, SIZE], rows[:, SIZE]).statistic
    got = shifts_of(rows).ks[SIZE]
    assert exact - 0.025 <= got <= exact + 1e-9


def test_categories_have_no_ks() -> None:
    rows = rows_of(900)
    rows[:, COLOUR] = 2
    found = shifts_of(rows)
    assert np.isnan(found.ks[COLOUR])
    assert found.psi[COLOUR] > 1


def test_a_feature_that_goes_missing_is_found() -> None:
    rows = rows_of(900, seed=9)
    rows[:60, SIZE] = math.nan
    rows[60:120, COLOUR] = math.nan
    found = shifts_of(rows)
    assert found.psi[SIZE] > 0.25
    assert found.psi[COLOUR] > 0.25
    assert found.ks[SIZE] < 0.05


def test_a_constant_that_changes_is_found() -> None:
    rows = rows_of(900, seed=9)
    rows[:300, ALWAYS] = 5
    found = shifts_of(rows)
    assert found.psi[ALWAYS] > 0.25
    assert found.ks[ALWAYS] == pytest.approx(1 / 3)


def test_a_feature_without_any_value_has_no_ks() -> None:
    rows = rows_of(900, seed=9)
    rows[:, SIZE] = math.nan
    found = shifts_of(rows)
    assert np.isnan(found.ks[SIZE])
    assert found.psi[SIZE] > 8
    assert found.js[SIZE] == pytest.approx(1)
