"""The hub: files of a repository at a pinned revision, each compared with the hub's own hash.

No request waits for ever, whatever the hub does: each has time limits, a passing fault is tried again a few times (after
the time that the hub asks for), and every other one ends with a message that says what to do about it.
"""

from __future__ import annotations

import email.utils
import functools
import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from embrepro.config.messages import suggest
from embrepro.errors import SourceError
from embrepro.files import sha256
from embrepro.progress import console
from embrepro.sources import cards

if TYPE_CHECKING:
    import httpx
    from huggingface_hub.hf_api import RepoFile

Kind = Literal["datasets", "models"]
Reply = TypeVar("Reply")

CONNECT_SECONDS = 5.0
ATTEMPTS = 4
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 120.0
PASSING_STATUSES = (408, 429, 500, 502, 503, 504)


class _PassingFault(Exception):
    """The hub cannot answer now and may be able to in a while."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class _NoAnswer(_PassingFault):
    """Nothing came, or the connection broke."""


@functools.cache
def problem() -> str | None:
    """Why the hub cannot be asked, found out once a process within seconds; None where it answers."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "the hub is switched off by HF_HUB_OFFLINE"
    try:
        _session().head(constants.ENDPOINT, timeout=CONNECT_SECONDS)
    except _NoAnswer as error:
        return f"the hub ({constants.ENDPOINT}) cannot be reached: {_first_line(error.__cause__ or error)}"
    except _PassingFault:
        return None
    except Exception as error:
        # Whatever the HTTP client raises: the hub cannot be asked
        return f"the hub ({constants.ENDPOINT}) cannot be reached: {str(error) or type(error).__name__}"
    return None


def fetch(
    kind: Kind,
    repository: str,
    revision: str,
    choose: Callable[[list[str]], Iterable[str]],
) -> Path:
    """The folder of a repository's files at a revision, in the hub's cache.

    Args:
        kind: models or datasets.
        repository: organisation/name.
        revision: a commit, or its start.
        choose: names those of the repository's files to fetch.

    Raises:
        SourceError: the reason, without the repository's name.
    """
    # The time limits must be in force before anything is asked
    session = _session()
    del session
    listed = {each.path: each for each in _patiently(repository, lambda: _list(kind, repository, revision))}
    chosen = sorted(choose(list(listed)))
    if not chosen:
        raise SourceError("the repository holds none of the files that are needed")
    return _patiently(repository, lambda: _download(kind, repository, revision, [listed[name] for name in chosen]))


def without_subsets(
    repository: str, revision: str, wanted: Collection[str], unwanted: Collection[str]
) -> Callable[[list[str]], Iterable[str]]:
    """Chooses a data set's files, less those that only other subsets of a task need, where its card tells."""

    def choose(names: list[str]) -> Iterable[str]:
        if not unwanted or "README.md" not in names:
            return names
        from huggingface_hub import hf_hub_download

        card = _patiently(
            repository, lambda: hf_hub_download(repository, "README.md", repo_type="dataset", revision=revision)
        )
        dropped = set(cards.unneeded_files(cards.configs(Path(card)), names, wanted, unwanted))
        return [name for name in names if name not in dropped]

    return choose


def commit(kind: Kind, repository: str) -> str:
    """The commit that a repository's main branch is at now.

    Raises:
        SourceError: the reason, without the repository's name.
    """
    from huggingface_hub import HfApi

    _session()
    found = _patiently(repository, lambda: HfApi().repo_info(repository, repo_type=_repo_type(kind), revision="main"))
    if not found.sha:
        raise SourceError("the hub names no commit")
    return str(found.sha)


def hashes(kind: Kind, repository: str, revision: str) -> dict[str, str]:
    """SHA-256 of those files of a repository for which the hub gives one: all that it stores apart from git.

    Raises:
        SourceError: the reason, without the repository's name.
    """
    _session()
    listed = _patiently(repository, lambda: _list(kind, repository, revision))
    return {each.path: each.lfs.sha256 for each in listed if each.lfs}


def read(address: str) -> bytes:
    """The content at an address of another host, asked with the hub's time limits and patience.

    Raises:
        SourceError: the reason.
    """
    session = _session()

    def ask() -> bytes:
        answer = session.get(address)
        answer.raise_for_status()
        return answer.content

    return _patiently(address, ask, _explained_elsewhere)


def _list(kind: Kind, repository: str, revision: str) -> list[RepoFile]:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    tree = HfApi().list_repo_tree(repository, recursive=True, revision=revision, repo_type=_repo_type(kind))
    return [each for each in tree if isinstance(each, RepoFile)]


def _download(kind: Kind, repository: str, revision: str, files: list[RepoFile]) -> Path:
    from huggingface_hub import constants, snapshot_download

    # Its transfers have time limits and retries of their own that nothing here can set.
    constants.HF_HUB_DISABLE_XET = True
    names = [_literal(each.path) for each in files]
    folder = Path(snapshot_download(repository, repo_type=_repo_type(kind), revision=revision, allow_patterns=names))
    for each in files:
        _compare(folder / each.path, each)
    return folder


def _literal(name: str) -> str:
    """A file's name as a pattern that matches it alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _compare(path: Path, file: RepoFile) -> None:
    """Compare a file with the hub's own hash of it; a file that differs is removed, so that it is fetched again."""
    if file.lfs:
        expected, found = file.lfs.sha256, sha256(path)
    else:
        content = path.read_bytes()
        expected, found = file.blob_id, hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if found != expected:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise _PassingFault(f"{file.path} came with another content than the hub lists: hash {found}, not {expected}")


def _patiently(asked: str, ask: Callable[[], Reply], explain: Callable[[str, Exception], str] | None = None) -> Reply:
    """Ask the hub or another host, again where a fault may pass.

    Args:
        asked: repository or address.
        ask: does so.
        explain: says what a fault that will not pass means; the hub's own explanations unless given.

    Raises:
        SourceError: what the fault is and what to do about it.
    """
    wait = FIRST_WAIT_SECONDS
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return ask()
        except Exception as error:
            fault = _passing(error)
            if fault is None:
                raise SourceError((explain or _explained)(asked, error)) from None
            pause = fault.retry_after if fault.retry_after is not None else wait
            if attempt == ATTEMPTS or pause > LONGEST_WAIT_SECONDS:
                later = f"; it asks to wait {pause:.0f} s" if fault.retry_after is not None else ""
                raise SourceError(f"{fault} ({attempt} attempts{later}). Try again later") from None
        console.say(f"{asked}: {fault}; trying again in {pause:.0f} s ({attempt} of {ATTEMPTS})")
        time.sleep(pause)
        wait *= 2
    raise AssertionError("unreachable")


def _passing(error: BaseException) -> _PassingFault | None:
    """The fault behind an error where it may pass: nothing came, the connection broke, or less came than was said."""
    import httpx

    for cause in _causes(error):
        if isinstance(cause, _PassingFault):
            return cause
        if isinstance(cause, httpx.TransportError):
            return _no_answer(cause, cause.request)
        if isinstance(cause, OSError) and "Consistency check failed" in str(cause):
            return _PassingFault("a file came cut short")
    return None


def _no_answer(error: httpx.TransportError, request: httpx.Request) -> _NoAnswer:
    import httpx

    answerer = _answerer(request)
    if isinstance(error, httpx.TimeoutException):
        return _NoAnswer(f"{answerer} does not answer in time")
    return _NoAnswer(f"the connection to {answerer} broke: {_first_line(error)}")


def _causes(error: BaseException) -> Iterable[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _explained(repository: str, error: Exception) -> str:
    """What a fault that will not pass means, and what to do."""
    from huggingface_hub import errors, get_token

    token = "the token in use (HF_TOKEN)" if get_token() else None
    response = getattr(error, "response", None)
    status = response.status_code if response is not None else None
    page = f"{_endpoint()}/{_page(repository, response)}"
    if isinstance(error, errors.GatedRepoError):
        account = f"with the account of {token}" if token else "signed in, and set HF_TOKEN to a token of that account"
        return f"it is gated: accept its terms at {page} {account}"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the hub has the repository, but not this revision (404). Correct the revision"
    if isinstance(error, errors.RepositoryNotFoundError) and status != 401:
        return f"the hub has no such repository (404){_nearest(repository, response)}"
    if status == 401:
        if token:
            return f"the hub does not accept {token} (401). Set a valid one"
        return (
            f"the hub shows it to nobody unknown (401): it is private, gated or misspelt. See {page}, and set HF_TOKEN"
            f"{_nearest(repository, response)}"
        )
    if status == 403:
        return f"the hub refuses {token or 'access without a token'} (403). Ask for access at {page}, and set HF_TOKEN"
    if any(isinstance(cause, (json.JSONDecodeError, errors.FileMetadataError)) for cause in _causes(error)):
        return (
            f"what answers at {_endpoint()} is not the hub: it sent something else, such as a web page. "
            "Check HF_ENDPOINT, and whether a proxy or a sign-in page stands between"
        )
    return f"the hub answered: {_first_line(error)}"


def _explained_elsewhere(address: str, error: Exception) -> str:
    """What a fault of another host means that will not pass."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.url.host} answered {response.status_code} {response.reason_phrase} for {address}"
    return f"{address} cannot be read: {_first_line(error)}"


def _answerer(request: httpx.Request) -> str:
    """Who answers a request, in words: the hub, or another host by its name."""
    import httpx

    return "the hub" if request.url.host == httpx.URL(_endpoint()).host else request.url.host


def _page(repository: str, response: Any) -> str:  # noqa: ANN401 - httpx.Response or nothing
    return f"datasets/{repository}" if response is not None and "/datasets/" in str(response.url) else repository


def _nearest(repository: str, response: Any) -> str:  # noqa: ANN401
    """The most similar names that the same organisation has, or any."""
    from huggingface_hub import HfApi

    organisation, _, name = repository.partition("/")
    search = HfApi().list_datasets if _page(repository, response) != repository else HfApi().list_models
    try:
        found = [*search(author=organisation, limit=500), *search(search=name, limit=20)]
    except Exception:
        # The names only help; what went wrong is known already
        return ""
    return suggest(repository, [each.id for each in found]) if found else ""


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _repo_type(kind: Kind) -> str:
    return "dataset" if kind == "datasets" else "model"


@functools.cache
def _time_limits() -> None:
    """Make every request of `huggingface_hub` go through a client that never waits for ever.

    What may pass is raised as an error that `huggingface_hub` does not know: it would wait it out by its own rules,
    minutes for each file and without a word.
    """
    import httpx
    from huggingface_hub import constants, set_client_factory

    class Body(httpx.SyncByteStream):
        """The body of a response; where enough of it came to be kept, `huggingface_hub` may ask for the rest."""

        def __init__(self, stream: httpx.SyncByteStream, request: httpx.Request) -> None:
            self._stream = stream
            self._request = request

        def __iter__(self) -> Iterator[bytes]:
            came = 0
            try:
                for part in self._stream:
                    came += len(part)
                    yield part
            except httpx.TransportError as error:
                if came >= constants.DOWNLOAD_CHUNK_SIZE:
                    raise
                raise _no_answer(error, self._request) from error

        def close(self) -> None:
            self._stream.close()

    class Client(httpx.Client):
        def send(self, request: httpx.Request, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
            try:
                response = super().send(request, **options)
            except httpx.TransportError as error:
                raise _no_answer(error, request) from error
            if isinstance(response.stream, httpx.SyncByteStream):
                response.stream = Body(response.stream, response.request)
            return response

    set_client_factory(
        lambda: Client(
            follow_redirects=True, event_hooks={"request": [_limit_time], "response": [_refuse_passing_faults]}
        )
    )


def _session() -> httpx.Client:
    from huggingface_hub import get_session

    _time_limits()
    return get_session()


def _limit_time(request: httpx.Request) -> None:
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    if constants.is_offline_mode():
        raise OfflineModeIsEnabled(f"{request.url} is not asked: HF_HUB_OFFLINE is set")
    read = float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
    limits = {"connect": CONNECT_SECONDS, "read": read, "write": read, "pool": read}
    asked = request.extensions.get("timeout") or {}
    request.extensions["timeout"] = {key: min(limit, asked.get(key) or limit) for key, limit in limits.items()}


def _refuse_passing_faults(response: httpx.Response) -> None:
    """Raise what `huggingface_hub` would otherwise wait out by its own rules, without a word."""
    if response.status_code in PASSING_STATUSES:
        raise _PassingFault(
            f"{_answerer(response.request)} answered {response.status_code} {response.reason_phrase}",
            _seconds(response.headers.get("Retry-After")),
        )


def _seconds(retry_after: str | None) -> float | None:
    """Seconds that a Retry-After header asks to wait, given as such or as a date (RFC 9110, section 10.2.3)."""
    if not retry_after:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        moment = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
