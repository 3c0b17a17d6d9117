"""Between a request and the engine: where a batch is computed, and until when."""
