"""Madrone on a Ray cluster: datasets scored by its workers, and the service as a deployment of Ray Serve."""

from madrone.ray.dataset import score
from madrone.ray.service import deployment

__all__ = ["deployment", "score"]
