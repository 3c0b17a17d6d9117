"""The commands of `madrone`. Heavy imports are inside them, so that `--help` and bad settings answer at once."""
