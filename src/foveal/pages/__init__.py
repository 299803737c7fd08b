"""Pages about models: what an evaluation or a comparison found, as a ``Page`` of ``foveal.report``."""
