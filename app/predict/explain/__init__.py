"""Why a prediction is what it is, and what it would be for other values."""
