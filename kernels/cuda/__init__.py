"""An NVIDIA GPU as a target. Nothing here is imported where there is none, but for `device_thread`."""
