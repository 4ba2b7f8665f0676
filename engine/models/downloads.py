"""Fetching released weights into the cache, when somebody asks for it and never otherwise.

A file is there under its name only when it is complete and what it was the first time: its
sha256 is recorded in a ledger on first use and checked ever after. Relies on urllib only for the network.
"""

import hashlib
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from platformdirs import user_cache_dir

from engine.catalogue import BUNDLED, WEIGHT_SUFFIXES, WEIGHTS
from engine.errors import BadInput, BadWeights, DiskFull, DownloadFailed
from engine.facts import models_folder
from engine.store import is_full, write_atomically
from engine.weight_files import LEDGER

Tell = Callable[[int, int], None]
"""Is told how many bytes are here and how many there will be, 0 while that is unknown."""

CHUNK_BYTES = 1024 * 1024
TIMEOUT_S = 30.0
ATTEMPTS = 5
"""Without progress; a broken connection that brought something does not count."""
PAUSE_S = 0.25
"""Before the second attempt; doubles."""
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def cache_dir() -> Path:
    """Return the folder of weights, which may not be there yet: ``DINOVIZ_CACHE``/models or the user's cache folder."""
    return models_folder(user_cache_dir("dinoviz"))


def fetch(name: str, tell: Tell, *, cache: Path | None = None, address: str | None = None) -> Path:
    """Return the file of a released model, downloading what is not here yet.

    An interrupted download is taken up where it broke off, also by the next call.

    Args:
        name: a name in ``catalogue.WEIGHTS``, or any name if ``address`` is given.
        tell: is called after every mebibyte; may raise to stop.
        cache: folder; ``None`` for ``cache_dir()``.
        address: where to get it instead of the catalogue's address, for a mirror.

    Raises:
        BadInput: the name is not in the catalogue, or cannot be that of a file, or the address is not https or ends
            in no suffix of weights.
        DownloadFailed: the server did not give the whole file.
        BadWeights: the bytes are not those of the first time.
        DiskFull: there is no room for it.
    """
    if address is None:
        if name not in WEIGHTS:
            raise BadInput(f"There are no released weights '{name}'.", f"There are: {', '.join(WEIGHTS)}.")
        address = WEIGHTS[name].address
    _check_address(address)
    check_name(name)
    suffix = Path(urllib.parse.urlsplit(address).path).suffix
    if suffix not in WEIGHT_SUFFIXES:
        raise BadInput(
            f"'{address}' does not end as a file of weights does.", f"It must be one of {', '.join(WEIGHT_SUFFIXES)}."
        )
    folder = cache or cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name + suffix)
    for present in (path, folder / f"{name}.safetensors"):  # the second: converted on first use
        if present.exists():
            check_recorded(present)
            return present
    part = path.with_name(path.name + ".part")
    _download(address, part, tell)
    try:
        _check_or_record(path.name, part, address)
    except BadWeights:
        part.unlink()
        raise
    finally:
        _notes_path(part).unlink(missing_ok=True)
    part.replace(path)
    return path


def check_name(name: str) -> None:
    """Refuse a name that would lie outside the cache.

    Raises:
        BadInput: it is no plain file name, or that of the bundled weights.
    """
    if Path(name).name != name or name.startswith("."):
        raise BadInput(f"'{name}' cannot be the name of a file.", "Choose another name.")
    if name == BUNDLED:
        raise BadInput(f"'{name}' is the name of weights that dinoviz knows.", "Choose another name.")


def _check_address(address: str) -> None:
    parts = urllib.parse.urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise BadInput(f"Weights are only fetched over https, not from '{address}'.")


def _download(address: str, part: Path, tell: Tell) -> None:
    """Ask for the rest until all of it is in ``part``."""
    failures = 0
    while failures < ATTEMPTS:
        before = _size(part)
        try:
            if _receive(address, part, tell):
                return
            reason = "the connection was closed"
        except urllib.error.HTTPError as exc:
            if exc.code < http.client.INTERNAL_SERVER_ERROR:
                raise DownloadFailed(f"The server answered {exc.code} {exc.reason} for {address}.") from exc
            reason = f"the server answered {exc.code}"
        except (OSError, http.client.HTTPException) as exc:
            if is_full(exc):
                raise DiskFull(f"No room left in '{part.parent}'.", "Free some space; it continues there.") from exc
            reason = str(exc) or type(exc).__name__
        failures = 0 if _size(part) > before else failures + 1
        time.sleep(PAUSE_S * 2**failures)
    raise DownloadFailed(
        f"{address} could not be fetched: {reason}.", "Try again later: it continues where it broke off."
    )


@dataclass(frozen=True, slots=True)
class _Notes:
    """What the server said about the file that a part belongs to."""

    address: str
    validator: str
    total: int


def _receive(address: str, part: Path, tell: Tell) -> bool:
    """Append what one connection brings; True when nothing is missing any more."""
    notes = _read_notes(part)
    here = _size(part) if notes and notes.address == address and notes.total else 0
    if notes and here == notes.total > 0:
        return True
    try:
        response = _ask(address, here, notes.validator if notes else "")
    except urllib.error.HTTPError as exc:
        if exc.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        part.unlink(missing_ok=True)
        return False
    with response:
        _check_address(response.geturl())
        total = _total(response)
        is_continued = response.status == http.client.PARTIAL_CONTENT
        if is_continued and (notes is None or _range_start(response) != here or total != notes.total):
            part.unlink(missing_ok=True)  # it is another file by now
            return False
        if not is_continued:
            here = 0
            _write_notes(part, _Notes(address, _validator(response), total))
        if total - here > shutil.disk_usage(part.parent).free:
            raise DiskFull(f"{total - here:,} bytes are missing and '{part.parent}' has no room for them.")
        with part.open("ab" if is_continued else "wb") as file:
            here = _copy(response, file, here, total, tell)
    return here == total or total == 0


def _ask(address: str, here: int, validator: str) -> http.client.HTTPResponse:
    headers = {"User-Agent": "dinoviz", "Accept-Encoding": "identity"}
    if here:
        headers["Range"] = f"bytes={here}-"
        if validator:  # the rest if the file is still the same, else all of it
            headers["If-Range"] = validator
    request = urllib.request.Request(address, headers=headers)
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    return response


def _copy(response: http.client.HTTPResponse, file: BinaryIO, here: int, total: int, tell: Tell) -> int:
    while chunk := response.read(CHUNK_BYTES):
        file.write(chunk)
        here += len(chunk)
        tell(here, total)
    file.flush()
    os.fsync(file.fileno())
    return here


def _total(response: http.client.HTTPResponse) -> int:
    if response.status == http.client.PARTIAL_CONTENT:
        whole = (response.headers["Content-Range"] or "").rpartition("/")[2]
    else:
        whole = response.headers["Content-Length"] or ""
    return int(whole) if whole.isdecimal() else 0


def _range_start(response: http.client.HTTPResponse) -> int:
    start = (response.headers["Content-Range"] or "").removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdecimal() else -1


def _validator(response: http.client.HTTPResponse) -> str:
    """Return what tells two versions of the file apart; a weak tag does not (RFC 9110, 13.1.5)."""
    tag = response.headers["ETag"] or ""
    return tag if tag and not tag.startswith("W/") else response.headers["Last-Modified"] or ""


def _read_notes(part: Path) -> _Notes | None:
    match _read_json(_notes_path(part)):
        case {"address": str(address), "validator": str(validator), "total": int(total)}:
            return _Notes(address, validator, total)
    return None


def _write_notes(part: Path, notes: _Notes) -> None:
    content = json.dumps(asdict(notes)).encode()
    write_atomically(_notes_path(part), lambda file: file.write(content))


def _notes_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_recorded(path: Path) -> str:
    """Return the sha256 of a file of the cache; the first time it is recorded.

    Raises:
        BadWeights: the file is not what it was the first time.
    """
    return _check_or_record(path.name, path, "")


def _check_or_record(name: str, path: Path, address: str) -> str:
    """Compare ``path`` with what the ledger beside it says about ``name``, or write that down."""
    ledger_path = path.with_name(LEDGER)
    content = _read_json(ledger_path)
    ledger = content if isinstance(content, dict) else {}
    found = sha256_of(path)
    match ledger.get(name):
        case {"sha256": str(expected)}:
            if found != expected:
                raise BadWeights(
                    f"'{name}' is not the file that it was the first time (sha256 {found[:12]}, not {expected[:12]}).",
                    f"Delete it and get it again; if the change is meant, delete its line in '{ledger_path}'.",
                )
        case _:
            ledger[name] = {"sha256": found, "size": path.stat().st_size, "address": address}
            encoded = json.dumps(ledger, indent=1, sort_keys=True).encode()
            write_atomically(ledger_path, lambda file: file.write(encoded))
    return found


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as exc:
        raise BadWeights(f"'{path}' is damaged.", "Delete it; what it describes is checked anew.") from exc
