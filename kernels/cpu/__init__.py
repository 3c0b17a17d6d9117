"""The CPU as a target: the plan and the forest compiled by Numba."""
