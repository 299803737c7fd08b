"""``freeze_layer_pattern``: which parameters a regular expression means (reference 2.8)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from foveal.errors import UserError


def matching(calls: Mapping[str, tuple[str, ...]], pattern: str) -> tuple[str, ...]:
    """The parameters of which a name matches the pattern from its start.

    Args:
        calls: parameter -> the names it goes by, an empty one for none.
        pattern: a regular expression.

    Raises:
        UserError: when it is no regular expression.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"{pattern!r} is no regular expression: {error}",
            "freeze_layer_pattern",
            "Write it as Python's `re` takes it, e.g. ^(conv1_|conv2_).*",
            "freeze_layer_pattern",
        ) from error
    return tuple(name for name, known in calls.items() if any(call and expression.match(call) for call in known))
