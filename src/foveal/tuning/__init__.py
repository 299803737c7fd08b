"""``foveal tune``: many runs with other settings each, of which the best one counts."""
