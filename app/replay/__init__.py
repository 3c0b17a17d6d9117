"""Replay of the prediction log: logged rows scored by another version of the model."""
