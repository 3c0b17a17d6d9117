"""An NVIDIA GPU as a target. Where there is none, only `availability` and `device_thread` do anything."""
