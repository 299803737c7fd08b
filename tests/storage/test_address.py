"""What is an address, and what a path."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.errors import UserError
from foveal.storage.address import Address, as_written, is_address, parse_address

KEYS = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"), min_size=1)


@pytest.mark.parametrize(
    ("text", "scheme", "bucket", "key"),
    [
        ("s3://photos", "s3", "photos", ""),
        ("S3://photos/", "s3", "photos", ""),
        ("s3://photos/a b/ü.jpg", "s3", "photos", "a b/ü.jpg"),
        ("https://example.org:8000/a/b.rec?x=1/2", "https", "example.org:8000", "a/b.rec?x=1/2"),
        ("hdfs:///photos/1.jpg", "hdfs", "", "photos/1.jpg"),
    ],
)
def test_an_address_is_scheme_bucket_and_key(text: str, scheme: str, bucket: str, key: str) -> None:
    assert is_address(text)
    assert parse_address(text) == Address(scheme, bucket, key)


@pytest.mark.parametrize(
    "text", ["photos", "/data/photos", "C:/photos", "C:\\photos", "photos:1", "s3:/photos/1.jpg", ""]
)
def test_paths_are_no_addresses(text: str) -> None:
    assert not is_address(text)


def test_an_address_survives_being_made_a_path() -> None:
    assert is_address(Path("s3://photos/train/"))
    assert parse_address(Path("s3://photos/train/")) == Address("s3", "photos", "train")
    assert as_written(Path("s3://photos/train/")) == "s3://photos/train"


def test_a_folder_of_that_name_goes_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s3:" / "photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_address(Path("s3://photos"))
    assert as_written(Path("s3:/photos")) == "s3:/photos"


def test_the_name_of_an_http_address_has_no_query() -> None:
    assert parse_address("https://example.org/a/b.zip?key=1/2.rec").name == "b.zip"
    assert parse_address("s3://photos/what?.jpg").name == "what?.jpg"


@given(KEYS, KEYS)
def test_keys_of_any_letters_come_back(first: str, second: str) -> None:
    address = Address("s3", "photos", f"{first}/{second}")
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("s3:///1.jpg", "s3:///1.jpg: this address names no bucket\nWrite s3://bucket/..., with two slashes."),
        ("http:///1.jpg", "http:///1.jpg: this address names no host\nWrite http://host/..., with two slashes."),
        ("photos", "photos: this is no address\nAn address is scheme://bucket/key, such as s3://photos/train/."),
    ],
)
def test_what_is_no_address_is_told(text: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_address(text)
    assert str(caught.value) == told
