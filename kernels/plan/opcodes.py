"""The numbers by which a packed program names its operations.

A program is never stored (only the plan is), so these numbers may change between releases. They are plain ints and not
an enum, because compiled code freezes them as constants.
"""

from typing import Final

RATIO: Final = 0
PRODUCT: Final = 1
LOG: Final = 2
CLIP: Final = 3
STANDARDISE: Final = 4
ROTATION: Final = 5
POINT_DISTANCE: Final = 6
POLYLINE_DISTANCE: Final = 7
