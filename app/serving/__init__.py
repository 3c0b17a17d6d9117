"""The stage between a request and the engine: admission, threads, deadlines, canary and shadow."""
