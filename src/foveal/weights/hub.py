"""Weights from the Hugging Face hub, through its client: its cache first, then the network (HF_ENDPOINT honoured)."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from foveal.errors import UserError

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
ENDPOINT = "https://huggingface.co"
SECONDS = 5.0  # to wait for the hub's first answer


class NoWeights(UserError):
    """No weights could be had, though nothing given is wrong: there are none, or the hub cannot be reached."""


def is_hub_id(name: str) -> bool:
    """Whether a name has the form ``owner/name``."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name) is not None


def hub_file(repo: str) -> Path:
    """The weights of a repository, in the local cache, its ``config.json`` beside them when there is one.

    Args:
        repo: ``timm/resnet18.a1_in1k``.

    Raises:
        NoWeights: when the hub cannot be reached and the cache lacks them.
        UserError: when the hub has no such repository, no ``model.safetensors`` in it, or refuses.
    """
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(repo, WEIGHTS)
    if isinstance(cached, str):
        return Path(cached)
    # The description first: once the weights lie in the cache, nothing more is asked for.
    _download(repo, CONFIG)
    path = _download(repo, WEIGHTS)
    if path is None:
        raise UserError(f"{repo} has no {WEIGHTS}", "weights", _way_out(repo), "weights")
    return path


def _download(repo: str, name: str) -> Path | None:
    """One file, or None when the repository lacks it."""
    from huggingface_hub import errors, hf_hub_download

    endpoint = (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    if not _reachable(endpoint):
        raise _unreachable(repo, endpoint)
    # The client's own connection errors are OSErrors up to its version 0.x, and of another family from 1.0 on.
    broken = (OSError, getattr(errors, "HTTPError", OSError))
    try:
        return Path(str(hf_hub_download(repo, name, endpoint=endpoint, etag_timeout=SECONDS)))
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise _unreachable(repo, endpoint) from error
    except errors.EntryNotFoundError:
        return None
    except errors.GatedRepoError as error:
        raise UserError(
            f"{repo} is given only to people whom its owner admits", "weights", _way_out(repo), "weights"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"the hub has no repository {repo!r}", "weights", _way_out(repo), "weights") from error
    except errors.HfHubHTTPError as error:
        raise UserError(f"the hub answered: {_first_line(error)}", "weights", _way_out(repo), "weights") from error
    except broken as error:
        raise _unreachable(repo, endpoint) from error


def _reachable(endpoint: str) -> bool:
    """Whether something listens there. The client alone tries for 23 seconds before it says that nothing does."""
    address = urlsplit(endpoint)
    host = address.hostname or ""
    if {address.scheme, "all"} & set(getproxies()) and not proxy_bypass(host):
        return True  # a direct connection would tell nothing
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        socket.create_connection((host, port), timeout=SECONDS).close()
    except (OSError, ValueError):  # ValueError: no port number
        return False
    return True


def _unreachable(repo: str, endpoint: str) -> NoWeights:
    return NoWeights(
        f"the weights {repo} cannot be had: the hub ({endpoint}) is not reachable", "weights", _way_out(repo), "weights"
    )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _way_out(repo: str) -> str:
    return (
        f"Download {WEIGHTS} from {ENDPOINT}/{repo} on a machine that can reach it, then set weights=FILE, "
        "or let FOVEAL_WEIGHTS name the file or a folder of such files."
    )
