"""Formats of arrays of one dtype: .npy, MessagePack, and tensors."""
