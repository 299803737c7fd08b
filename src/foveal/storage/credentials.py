"""What S3 asks for, found where boto3 finds it: the environment, profiles, single sign-on, roles.

obstore reads the environment (keys, web identity, a container's role) and asks an instance for its role, but no
profile file. Where boto3 is installed, it is asked for everything that the environment does not hold itself.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from foveal.errors import UserError

OWN = (  # obstore finds these itself
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
NO_CREDENTIALS = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; AWS_SKIP_SIGNATURE=true for a public bucket."
)


def s3_endpoint() -> str:
    """The endpoint that the environment names; empty for AWS's own."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def s3_options(where: str) -> dict[str, Any]:
    """Arguments of ``obstore.store.S3Store`` besides the bucket: endpoint, region, credentials; path-style addresses.

    Raises:
        UserError: when there are no credentials, or only such as need boto3, which is missing.
    """
    endpoint = s3_endpoint()
    options: dict[str, Any] = {}
    unsigned = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("true", "1")
    if not unsigned and not any(os.environ.get(name) for name in OWN):
        if find_spec("boto3") is not None:
            provider, endpoint = _by_boto3(where, endpoint)
            options["credential_provider"] = provider
        elif _profiles():
            raise UserError(
                f"the credentials lie in a profile ({_profiles()}), which only boto3 can read, and it isn't installed",
                where,
                "pip install boto3, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
            )
    if endpoint:
        options["endpoint"] = endpoint
    return options | {"client_options": {"allow_http": endpoint.startswith("http://")}}


def _profiles() -> str:
    """The first sign of a profile; empty when there is none."""
    if os.environ.get("AWS_PROFILE"):
        return f"AWS_PROFILE={os.environ['AWS_PROFILE']}"
    for variable, usual in (
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        ("AWS_CONFIG_FILE", "~/.aws/config"),
    ):
        path = Path(os.environ.get(variable) or usual).expanduser()
        if path.is_file():
            return str(path)
    return ""


def _by_boto3(where: str, endpoint: str) -> tuple[Any, str]:
    """boto3's credentials as obstore takes them, and the endpoint that the profile names where none is given."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        session = boto3.Session()
        if session.get_credentials() is None:
            raise UserError("no AWS credentials were found", where, NO_CREDENTIALS)
        provider = Boto3CredentialProvider(session)
        provider()  # what has expired is told here
        if not endpoint:
            client = session.client("s3", region_name=session.region_name or "us-east-1")
            named = str(client.meta.endpoint_url)
            endpoint = "" if "amazonaws.com" in named else named
    except (BotoCoreError, ClientError) as error:
        raise UserError(
            f"the AWS credentials can't be used: {error}",
            where,
            "Look at AWS_PROFILE; `aws sso login` renews a log-in.",
        ) from error
    return provider, endpoint
