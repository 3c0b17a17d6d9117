"""Kernels that evaluate a forest on the CPU, for few rows and for many."""
