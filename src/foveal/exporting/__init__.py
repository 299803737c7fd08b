"""A model as a graph for other engines: written, asked by the engine itself, and kept only when it agrees."""
