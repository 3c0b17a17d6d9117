"""Recipes of the California Housing model. They describe the place of a house by features that a tree can split on.

A tree splits along one axis at a time. Distances to the coast and to places let it split along those; prices of the
nearest block groups, and differences from them, add the rest. `STATELESS` stores no rows, and made the bundled model;
`FULL` stores the rows that it is fitted on.
"""

from app.training import geography
from app.training.recipe import Areas, Recipe
from kernels.plan.gaussian_process import Shape
from kernels.plan.plan import (
    Factor,
    GaussianProcess,
    Input,
    Log,
    Neighbours,
    PointDistance,
    PolylineDistance,
    Ratio,
    Regression,
    Rotation,
    Step,
    Term,
)

MODEL_NAME = "california-housing-model"
TITLE = "California Housing prices"

_MEANINGS = {
    "MedInc": ("Median income of the block group's households", "10,000 USD a year", (0.0, 100.0)),
    "HouseAge": ("Median age of the block group's houses", "years", (0.0, 500.0)),
    "AveRooms": ("Rooms per household", "", (0.0, 1_000.0)),
    "AveBedrms": ("Bedrooms per household", "", (0.0, 1_000.0)),
    "Population": ("People in the block group", "", (0.0, 1_000_000.0)),
    "AveOccup": ("People per household", "", (0.0, 100_000.0)),
    "Latitude": ("Latitude of the block group, north positive", "degrees", (-90.0, 90.0)),
    "Longitude": ("Longitude of the block group, east positive", "degrees", (-180.0, 180.0)),
}
"""Meaning, unit and physical range of each raw feature (R. Kelley Pace and Ronald Barry, Sparse Spatial
Autoregressions, Statistics and Probability Letters 33, 1997, by way of scikit-learn)."""

ROTATIONS = tuple(degrees for degrees in range(5, 180, 5) if degrees != 90)
"""Degrees by which coordinates are rotated: every five, except those that give an axis again."""

SHORES = {"coast": geography.COAST, "bay": geography.BAY}
RIDGES = {
    "santa_monica_mountains": geography.SANTA_MONICA_MOUNTAINS,
    "east_bay_hills": geography.EAST_BAY_HILLS,
    "peninsula_ridge": geography.PENINSULA_RIDGE,
}


INPUTS = tuple(
    Input(name=name, description=text, unit=unit, physical_range=physical)
    for name, (text, unit, physical) in _MEANINGS.items()
)
PLACE = ("Latitude", "Longitude")
PLACE_SCALES = (1.0, 1.25)
"""Degrees of about the same length on the ground at California's latitudes: cos(37 degrees) is 0.8."""


def _line_distance(name: str, vertices: tuple[tuple[float, float], ...]) -> PolylineDistance:
    return PolylineDistance(output=f"to_{name}", latitude="Latitude", longitude="Longitude", vertices=vertices)


_BEDROOMS = Ratio(output="bedrooms_per_room", numerator="AveBedrms", denominator="AveRooms")
_LINES = tuple(_line_distance(name, vertices) for name, vertices in (SHORES | RIDGES).items())
_STEPS: tuple[Step, ...] = (
    _BEDROOMS,
    *(Rotation(output=f"rotated_{angle}", x="Longitude", y="Latitude", degrees=angle) for angle in ROTATIONS),
    *_LINES,
    *(
        PointDistance(output=f"to_{name}", latitude="Latitude", longitude="Longitude", point=point)
        for name, point in geography.PLACES.items()
    ),
)

STATELESS = Recipe(
    inputs=INPUTS,
    steps=_STEPS,
    parameters={"num_leaves": 80, "feature_fraction": 0.25},
    max_rounds=330,  # bounds the model's text to 2.5 MB; three times as many trees gained 0.001 of RMSE
    unit="100,000 USD",
)
"""Chosen on the validation rows of five splits."""

LOGS = ("MedInc", "AveRooms", "AveBedrms", "Population", "AveOccup")
ATTRIBUTES = ("log_MedInc", "HouseAge", *(f"log_{name}" for name in LOGS[1:]))


def _attributes(shape: Shape) -> Factor:
    """A factor over the attributes; the search starts at lengths of about four standard deviations."""
    return Factor(shape=shape, inputs=ATTRIBUTES, lengths=(2.0, 50.0, 1.0, 0.6, 3.0, 1.0))


_NEIGHBOURS = Neighbours(
    output="near",
    inputs=PLACE,
    scales=PLACE_SCALES,
    counts=(2, 4, 8, 16, 32, 64),
    contrasts=ATTRIBUTES,
    contrast_counts=(8, 32),
    regressions=(
        Regression(
            output="four", inputs=("log_MedInc", "log_AveRooms", "log_AveBedrms", "log_AveOccup"), count=32, ridge=0.125
        ),
        Regression(output="six", inputs=ATTRIBUTES, count=48, ridge=0.2),
    ),
)
_PROCESS = GaussianProcess(
    output="process",
    terms=(
        Term(variance=0.5, factors=(Factor(shape="exponential", inputs=PLACE, lengths=(1.0, 1.0)),)),
        Term(
            variance=0.3,
            factors=(Factor(shape="exponential", inputs=PLACE, lengths=(0.1, 0.1)), _attributes("exponential")),
        ),
        Term(
            variance=0.3,
            factors=(_attributes("matern32"), Factor(shape="exponential", inputs=PLACE, lengths=(1.0, 1.0))),
        ),
        Term(variance=0.3, factors=(_attributes("matern32"),)),
    ),
    constant=4.0,
    noise=0.05,
)
"""Effects of the place, slow and fast; effects of the attributes everywhere, and in one region."""

FULL = Recipe(
    inputs=INPUTS,
    steps=(_BEDROOMS, *_LINES, *(Log(output=f"log_{name}", input=name) for name in LOGS)),
    references=(_NEIGHBOURS, _PROCESS),
    outputs=(
        *_MEANINGS,
        _BEDROOMS.output,
        *(step.output for step in _LINES),
        *_NEIGHBOURS.outputs,
        *_PROCESS.outputs,
    ),
    parameters={
        "num_leaves": 31,
        "learning_rate": 0.03,
        "feature_fraction": 0.2,
        "lambda_l2": 30.0,
        "max_bin": 255,
    },
    areas=Areas(inputs=PLACE, degrees=True),
    unit="100,000 USD",
)
"""Chosen on the validation rows of five splits."""

RECIPES = {"full": FULL, "stateless": STATELESS}
