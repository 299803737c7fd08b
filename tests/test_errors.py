"""What errors tell."""

from __future__ import annotations

from foveal.errors import UserError


def test_a_message_is_what_where_and_a_line_of_what_to_do():
    assert str(UserError("it is empty", "a.rec", "Pack it again.")) == "a.rec: it is empty\nPack it again."


def test_a_message_can_be_printed_whatever_it_quotes():
    error = UserError("the class '\ud800\udcff' is unknown", "caf\u00e9/\udce9.jpg", "Rename \ud800.")
    assert str(error) == "café/\\udce9.jpg: the class '\\ud800\\udcff' is unknown\nRename \\ud800."
