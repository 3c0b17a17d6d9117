"""Formats of named columns: Arrow, Parquet and CSV."""
