"""Trains models with feature plans, on the California Housing data or on any table of numbers.

    from app.training import Dataset, Recipe, train

A `Recipe` says what to fit, `train` fits and evaluates it, and the resulting `TrainedModel` can be saved, or registered
where the service finds it.
"""

from app.training.dataset import Dataset
from app.training.model import TrainedModel, train
from app.training.recipe import Areas, Recipe

__all__ = ["Areas", "Dataset", "Recipe", "TrainedModel", "train"]
