"""Listing and reading in S3 (moto's server), behind http, and through fsspec."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from foveal.errors import UserError
from foveal.storage import credentials, obstores, stores
from foveal.storage.address import Address, parse_address


def all_below(address: str) -> dict[str, int]:
    return {found.key: found.size for found in stores.list_objects(parse_address(address))}


def told_by(address: str) -> str:
    with pytest.raises(UserError) as caught:
        list(stores.list_objects(parse_address(address)))
    return str(caught.value)


def test_a_prefix_lists_whole_parts_of_keys_whatever_letters_they_have(bucket: Any) -> None:
    for key in ("train/a b.jpg", "train/ü%20+&.jpg", "train/deep/er/1.jpg", "training/1.jpg", "train"):
        bucket.put(key, b"12345")
    keys = {"train/a b.jpg", "train/ü%20+&.jpg", "train/deep/er/1.jpg"}
    assert all_below(f"s3://{bucket.name}/train") == dict.fromkeys(keys, 5)
    assert all_below(f"s3://{bucket.name}/train/") == dict.fromkeys(keys, 5)
    assert stores.read_all(parse_address(f"s3://{bucket.name}/train/ü%20+&.jpg"))[1] == b"12345"


def test_more_than_one_page_is_listed(bucket: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: bucket.put(f"many/{number:04d}", b""), range(1003)))
    assert len(all_below(f"s3://{bucket.name}/many")) == 1003


def test_ranges_end_where_the_object_does(bucket: Any) -> None:
    address = parse_address(bucket.put("1.bin", bytes(range(100))))
    found = stores.read_range(address, 90, 200)
    assert found is not None
    assert (found[0].size, found[1]) == (100, bytes(range(90, 100)))
    assert stores.head(address) == found[0]


def test_the_version_changes_with_the_content_and_is_one_for_list_head_and_read(bucket: Any) -> None:
    address = parse_address(bucket.put("p/1.bin", b"one"))
    before = stores.head(address)
    assert [before] == list(stores.list_objects(parse_address(f"s3://{bucket.name}/p")))
    bucket.put("p/1.bin", b"two")
    assert stores.head(address).version != before.version


def test_http_is_read_with_its_query_and_streamed_without_ranges(website: Any) -> None:
    website.files["/a%20b.rec?sig=1%2F2"] = b"0123456789"
    website.ranges = False
    address = parse_address(f"{website.url}/a%20b.rec?sig=1%2F2")
    assert stores.read_range(address, 0, 5) is None
    assert b"".join(stores.stream(address)) == b"0123456789"
    assert stores.read_all(address)[1] == b"0123456789"
    assert list(stores.list_objects(address)) == []
    with pytest.raises(FileNotFoundError):
        stores.head(parse_address(f"{website.url}/other"))


def test_fsspec_reads_what_its_drivers_know(cloudless: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe({"/photos/cat/1.jpg": b"cat", "/photos/dog/2.jpg": b"doggy"})
    try:
        assert all_below("memory://photos") == {"cat/1.jpg": 3, "dog/2.jpg": 5}
        found = stores.read_range(parse_address("memory://photos/dog/2.jpg"), 1, 3)
        assert found is not None and found[1] == b"og"
        assert all_below("memory://nothing") == {}
        with pytest.raises(FileNotFoundError):
            stores.head(parse_address("memory://photos/dog/3.jpg"))
    finally:
        memory.rm("/photos", recursive=True)


def test_a_profile_file_alone_is_enough(
    bucket: Any, s3_endpoint: str, cloudless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = parse_address(bucket.put("1.bin", b"mine"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name)
    (cloudless / ".aws").mkdir()
    (cloudless / ".aws" / "credentials").write_text(
        "[work]\naws_access_key_id = OFWORK\naws_secret_access_key = secret\n"
    )
    (cloudless / ".aws" / "config").write_text(f"[profile work]\nregion = eu-west-1\nendpoint_url = {s3_endpoint}\n")
    monkeypatch.setenv("AWS_PROFILE", "work")
    options = credentials.s3_options("s3://photos")
    assert options["endpoint"] == s3_endpoint
    assert options["credential_provider"]()["access_key_id"] == "OFWORK"
    assert options["credential_provider"].config == {"region": "eu-west-1"}
    assert stores.read_all(address)[1] == b"mine"


def test_the_environment_goes_before_profiles(bucket: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://other.example.org")
    expected = {"endpoint": s3_endpoint, "client_options": {"allow_http": True}}
    assert credentials.s3_options("s3://photos") == expected


def test_a_profile_without_boto3_is_told(cloudless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.setattr(credentials, "find_spec", lambda name: None)
    assert told_by("s3://photos/train") == (
        "s3://photos/train: the credentials lie in a profile (AWS_PROFILE=work), which only boto3 can read, and it"
        " isn't installed\npip install boto3, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    )


def test_a_credentials_file_without_boto3_is_told(cloudless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    monkeypatch.setattr(credentials, "find_spec", lambda name: None)
    (cloudless / ".aws").mkdir()
    (cloudless / ".aws" / "credentials").write_text("[default]\n")
    assert f"lie in a profile ({cloudless}/.aws/credentials), which only boto3" in told_by("s3://photos/train")


def test_missing_credentials_are_told(cloudless: Path) -> None:
    for part in ("obstore", "boto3"):
        pytest.importorskip(part)
    assert told_by("s3://photos/train") == (
        "s3://photos/train: no AWS credentials were found\n"
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; AWS_SKIP_SIGNATURE=true for a public bucket."
    )


def test_a_profile_that_is_not_there_is_told(cloudless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("obstore", "boto3"):
        pytest.importorskip(part)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert told_by("s3://photos/train") == (
        "s3://photos/train: the AWS credentials can't be used: The config profile (nobody) could not be found\n"
        "Look at AWS_PROFILE; `aws sso login` renews a log-in."
    )


def test_a_bucket_that_is_not_there_is_told(bucket: Any) -> None:
    assert told_by("s3://no-such-bucket/train") == (
        "s3://no-such-bucket/train: there is no bucket no-such-bucket\nCheck its name and whose account is asked."
    )


def test_a_refusal_is_told(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("train/1.jpg", b"1")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with pytest.raises(UserError) as caught:
        stores.read_all(Address("s3", bucket.name, "train/1.jpg"))
    assert str(caught.value) == (
        f"s3://{bucket.name}/train/1.jpg: the store refuses to let us read this\n"
        "Check whose credentials are used and what they may do."
    )


def test_a_store_that_does_not_answer_is_told(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(obstores.TRIES, "max_retries", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    first, _, remedy = told_by("s3://photos/train").partition("\n")
    assert first.startswith("s3://photos/train: the store doesn't answer as it should: Generic S3 error: ")
    assert "http://127.0.0.1:1/photos" in first
    assert remedy == "Check the network and the endpoint, and start again: what was read is kept."


def test_a_key_that_is_no_path_is_told(bucket: Any) -> None:
    bucket.put("train//1.jpg", b"1")
    assert told_by(f"s3://{bucket.name}/train") == (
        f"s3://{bucket.name}/train: a key in it can't be read: Encountered object with invalid path: Path"
        ' "train//1.jpg" contained empty path segment\nRename the object: no part of a key may be empty, . or ..'
    )


def test_a_scheme_that_nobody_knows_is_told(cloudless: Path) -> None:
    pytest.importorskip("fsspec")
    assert told_by("ark://photos") == (
        "ark://photos: ark:// is a kind of address that neither Foveal nor fsspec knows\n"
        "Known: s3://, gs://, az://, http://, https://, and what fsspec and its drivers read."
    )


def test_a_driver_that_is_missing_is_told(cloudless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    monkeypatch.setitem(sys.modules, "paramiko", None)
    first, _, remedy = told_by("sftp://host/photos").partition("\n")
    assert first.startswith("sftp://host/photos: sftp:// needs a driver of fsspec: ")
    assert remedy == "Install it with pip."


def test_obstore_that_is_missing_is_told(cloudless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("obstore", "obstore.exceptions", "obstore.store"):
        monkeypatch.setitem(sys.modules, name, None)
    assert told_by("s3://photos/train") == (
        's3://photos/train: s3:// needs obstore, which isn\'t installed\npip install "foveal[cloud]"'
    )
