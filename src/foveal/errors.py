"""Errors that a person can mend.

    UserError            anything wrong in what the user gave: a file, a record, a setting
    +-- BadPicture       one picture that cannot be read; skipped and counted within a bound

Everything else that is raised is a bug of ours and keeps its traceback.
"""

from __future__ import annotations


class UserError(Exception):
    """Something the user gave is wrong.

    Args:
        what: what is wrong, with the value seen, e.g. "class id 20 is outside 0..19 (num_classes=20)".
        where: the file, record or setting, e.g. "train.lst, line 42"; may be empty.
        remedy: what to do about it, as a sentence; may be empty.

    What can't be written as UTF-8 in these texts (names and labels are quoted as they are) becomes an escape.

    Attributes:
        setting: the name of the setting at fault, where it is one; doors may use it to point at an option.
    """

    def __init__(self, what: str, where: str = "", remedy: str = "", setting: str = "") -> None:
        what, where, remedy = (text.encode("utf-8", "backslashreplace").decode() for text in (what, where, remedy))
        super().__init__(what, where, remedy, setting)
        self.what = what
        self.where = where
        self.remedy = remedy
        self.setting = setting

    def __str__(self) -> str:
        first = f"{self.where}: {self.what}" if self.where else self.what
        return f"{first}\n{self.remedy}" if self.remedy else first


class BadPicture(UserError):
    """A picture that cannot be decoded, or whose size is refused."""
