"""Limits of drift: the same in the report of the service, in the alerts and in the dashboard."""

MODERATE = 0.1
MAJOR = 0.25
"""PSI from which a shift is moderate, and major: the usual limits, see N. Siddiqi, Credit Risk Scorecards (2006)."""

LEAST_ROWS = 500
"""Rows of a window below which nothing is said: chance alone would make the PSI of 20 bins 0.04 or more."""

LEAST_SHARE = 1e-4
"""Least share of a cell in the PSI, in place of 0, whose logarithm is infinite.

A share that does not depend on the number of rows: a cell that is rarer than this on both sides adds nothing, however
many such cells there are. An empty bin of 5 % of the reference adds 0.31.
"""
