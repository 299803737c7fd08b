"""Archives as inputs: right ones, and such as only somebody who means harm packs.

Changed at random alone, an archive hardly gets past its checksums. So most inputs are packed anew with odd names, links
and kinds, and changed afterwards; and the checksums of tar headers are set right again, mostly.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Sequence
from random import Random

from mutation import mutate_binary, mutate_text

_BLOCK = 512
_NAMES = ("a.jpg", "b.png", "cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/a/b/c.jpg")
_ODD_NAMES = (
    "A.JPG", "cat", "cat/", "./a.jpg", "../a.jpg", "../../x", "cat/../../x", "/tmp/x", "//x/y", "C:\\x", "c:x", "..\\x",
    "\\\\host\\share\\x", "cat\\3.jpg", "", ".", "..", "/", ".hidden", "__MACOSX/a", "con", "a\0b", "a\nb",
    "\u00e9.jpg", "e\u0301.jpg", "\udcff.jpg", "x" * 300, "y/" * 600 + "z", "CAT/1.jpg", "a.jpg/b", "\u202egpj.a",
)  # fmt: skip
_TARGETS = (
    "a.jpg", "cat/1.jpg", "1.jpg", "../a.jpg", "../../../etc/passwd", "/etc/passwd", ".", "..", "cat", "l", "", "C:\\x",
)  # fmt: skip
_KINDS = (
    *[tarfile.REGTYPE] * 16, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE,
    tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE, b"Z",
)  # fmt: skip
TAR_WORDS = (
    b"ustar\00000", b"ustar  \0", b"../../x\0", b"/x\0", b"\x80\0\0\0\0\0\0\x7f", b"77777777777\0", b"00000000000\0",
    b"L", b"K", b"x", b"g", b"2", b"1", b"5", b"S", b"23 path=../../../../x.jpg\n", b"20 size=99999999999\n",
    b"25 GNU.sparse.major=1\n12", b"22 linkpath=../../../x\n", bytes(_BLOCK),
)  # fmt: skip
ZIP_WORDS = (
    b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"../../x.jpg", b"/a.jpg", b"\x0c\0", b"\x0e\0", b"\x63\0",
    b"\xff\xff\xff\xff", b"\x01\0\x10\0", b"\xed\xa1\0\0",
)  # fmt: skip


def tar_seeds() -> list[bytes]:
    plain = _tar([("cat/1.jpg", tarfile.REGTYPE, b"one", ""), ("dog/1.jpg", tarfile.REGTYPE, b"two" * 200, "")])
    long = _tar([("x" * 120 + "/1.jpg", tarfile.REGTYPE, b"one", "")], tarfile.GNU_FORMAT)
    extended = _tar([("\u00e9" * 80 + ".jpg", tarfile.REGTYPE, b"one", ""), ("l", tarfile.SYMTYPE, b"", "a" * 120)])
    return [
        plain,
        long,
        extended,
        gzip.compress(plain, 1, mtime=0),
        bz2.compress(plain),
        lzma.compress(plain, preset=0),
    ]


def zip_seeds() -> list[bytes]:
    return [
        _zip([("cat/1.jpg", b"one", 0), ("dog/1.jpg", b"two" * 200, 0)], zipfile.ZIP_DEFLATED),
        _zip([("a.jpg", b"one", 0), ("l", b"a.jpg", 0o120777 << 16)], zipfile.ZIP_STORED),
        _zip([("d/", b"", 0o040755 << 16), ("d/\u00e9.jpg", b"one" * 99, 0)], zipfile.ZIP_BZIP2),
    ]


def shard_seeds() -> list[bytes]:
    shards = (
        [("1.jpg", b"\xff\xd8one"), ("1.cls", b"0"), ("2.jpg", b"\xff\xd8two"), ("2.cls", b"1"), ("2.txt", b"dog")],
        [("1.txt", b"cat"), ("1.png", b"one"), ("d/2.txt", b"dog"), ("d/2.png", b"two")],
        [("1.jpg", b"one"), ("1.json", b'{"label": 3, "label_name": "cat"}'), ("2.jpg", b"x"), ("2.json", b"[0, 1]")],
        [("1.jpg", b"one"), ("1.json", b'{"objects": {"bbox": [[1, 2, 3, 4]], "categories": ["cat"]}, "width": 40}'),
         ("2.jpg", b"two"), ("2.json", b'{"annotations": [{"bbox": [1, 2, 3, 4], "category_id": 1}]}')],
        [("1.jpg", b"one"), ("1.json", b'{"labels": ["cat", "dog"]}'), ("2.jpg", b"x"), ("2.json", b'{"labels": []}')],
    )  # fmt: skip
    return [_tar([(name, tarfile.REGTYPE, content, "") for name, content in shard]) for shard in shards]


def make_tar(rng: Random, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A tar file, plain or compressed; what is compressed is changed before, after, or both."""
    if rng.random() < 0.5:
        members = [
            (name, rng.choice(_KINDS), rng.randbytes(rng.choice((0, 3, 600))), rng.choice(_TARGETS))
            for name in _names(rng)
        ]
        content = _tar(members, rng.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)))
        content = _mended(rng, mutate_binary(rng, [content], words)) if rng.random() < 0.5 else content
    else:
        content = _mended(rng, mutate_binary(rng, seeds, words))
    if rng.random() < 0.8:
        return content
    compress = rng.choice(
        (lambda text: gzip.compress(text, 1, mtime=0), bz2.compress, lambda text: lzma.compress(text, preset=0))
    )
    packed = compress(content)
    return mutate_binary(rng, [packed], ()) if rng.random() < 0.5 else packed


def make_zip(rng: Random, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A zip file."""
    if rng.random() < 0.4:
        return mutate_binary(rng, seeds, words)
    kinds = (*[0] * 8, *[0o100644] * 4, 0o120777, 0o120777, 0o040755, 0o010644, 0o020644)
    members = []
    for name in _names(rng):
        kind = rng.choice(kinds)
        content = rng.choice(_TARGETS).encode() if kind == 0o120777 else rng.choice((b"", b"one", bytes(5000)))
        members.append((name.encode("utf-8", "replace").decode(), content, kind << 16))
    methods = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA
    content = _zip(members, rng.choice(methods))
    return mutate_binary(rng, [content], words) if rng.random() < 0.5 else content


def make_shard(rng: Random, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A shard; in half of them it is the labels that are changed, not the tar file around them."""
    content = rng.choice(seeds)
    if rng.random() < 0.5:
        return _mended(rng, mutate_binary(rng, seeds, words))
    members = []
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for info in archive.getmembers()[:20]:
                file = archive.extractfile(info) if info.isfile() else None
                members.append((info.name, info.type, file.read() if file else b"", ""))
    except (tarfile.TarError, ValueError, OSError, EOFError):  # of the corpus, and broken itself
        return _mended(rng, mutate_binary(rng, seeds, words))
    labels = [place for place, each in enumerate(members) if each[0].endswith((".cls", ".txt", ".json"))]
    for place in rng.sample(labels, min(len(labels), rng.randint(1, 2))):
        name, kind, label, target = members[place]
        members[place] = (name, kind, mutate_text(rng, [label], words)[:2000], target)
    return _tar(members)


def _names(rng: Random) -> list[str]:
    """Names of members; in half of the lists one is odd."""
    names = rng.sample(_NAMES, rng.randint(1, 5))
    if rng.random() < 0.5:
        names.insert(rng.randint(0, len(names)), rng.choice(_ODD_NAMES))
    return names


def _tar(members: Sequence[tuple[str, bytes, bytes, str]], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar file of (name, kind, content, what it links to)."""
    kept = io.BytesIO()
    with tarfile.open(fileobj=kept, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as archive:
        for name, kind, content, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            info.size = len(content) if kind in (tarfile.REGTYPE, tarfile.GNUTYPE_SPARSE, b"Z") else 0
            archive.addfile(info, io.BytesIO(content))
    return kept.getvalue()[: kept.tell()].rstrip(b"\0") + bytes(2 * _BLOCK)


def _zip(members: Sequence[tuple[str, bytes, int]], method: int) -> bytes:
    """A zip file of (name, content, attributes)."""
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", method) as archive:
        for name, content, attributes in members:
            info = zipfile.ZipInfo("x")
            info.filename, info.external_attr, info.compress_type = name, attributes, method
            archive.NameToInfo.clear()  # else it warns of a name that comes twice
            with archive.open(info, "w") as file:
                file.write(content)
    return kept.getvalue()


def _mended(rng: Random, content: bytes) -> bytes:
    """Headers with right checksums, in nine of ten cases."""
    if rng.random() < 0.1:
        return content
    kept = bytearray(content)
    for start in range(0, len(kept) - _BLOCK + 1, _BLOCK):
        if kept[start + 257 : start + 262] == b"ustar":
            kept[start + 148 : start + 156] = b" " * 8
            kept[start + 148 : start + 156] = b"%06o\0 " % sum(kept[start : start + _BLOCK])
    return bytes(kept)
