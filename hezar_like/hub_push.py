"""Pushing files to the Hub: one commit of exactly what was asked for, or none."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import HubError, OptionError
from .hub_client import FINAL, Access, call, retry
from .hub_errors import is_transient, origin, status_of
from .hub_files import find_file
from .hub_names import check_option, check_repo_id, check_revision
from .paths import check_name, shortened

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

__all__ = ["push"]

logger = logging.getLogger("hezar_like")

CARD = "README.md"
REFUSED = (429, 503)
"""Answers that say that nothing was done."""


def push(
    repo_id: str,
    files: Mapping[str, Path | bytes],
    *,
    commit_message: str,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    delete: Callable[[list[str]], Iterable[str]] | None = None,
    card: Callable[[str | None], str | None] | None = None,
) -> str:
    """Pushes exactly these files in one commit; creates the repository, and the branch, when they do not exist.

    A push that changes nothing makes no commit. A repository that changed while this ran is left as it is. When the
    answer to the commit is lost, the repository tells whether it arrived; it is never made twice.

    Args:
        repo_id: Where to, such as "me/my-model".
        files: Name in the repository -> a local file or its content.
        commit_message: The title of the commit.
        private: Whether a new repository is private; the owner's default when None.
        token: As in `resolve`; it must allow writing.
        revision: The branch; the default one when None.
        create_pr: Open a pull request instead of committing to the branch.
        delete: Gets the names of the files that are there and gives those that the same commit deletes. Pushed names
            are never deleted.
        card: Gets the text of the README.md that is there, None when there is none, and gives the new text, or None
            to leave it alone.

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        CheckpointError: When a name points outside the repository.
        OptionError: When an option is of another kind than it must be.
        HubError: When the Hub refuses or cannot be reached, a local file cannot be read, or an existing repository is
            not as `private` says.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.constants import is_offline_mode

    check_repo_id(repo_id)
    check_revision(revision)
    check_option("create_pr", create_pr)
    if private is not None:
        check_option("private", private)
    if not isinstance(commit_message, str) or not commit_message.strip():
        raise OptionError(f"commit_message is {shortened(commit_message)}; it must be a text.")
    for name in files:
        check_name(name, "this push")
    where = repr(repo_id)
    if is_offline_mode():
        raise HubError(f"cannot push to {where}: the Hub is not used (offline); unset HF_HUB_OFFLINE and push again")
    access = Access(token)
    client = access.client()
    full_id, head = call(where, _open, client, repo_id, revision, private, may_add_branch=not create_pr)
    existing = {sibling.rfilename for sibling in head.siblings or ()}
    wanted = dict(files)
    if card is not None and CARD not in files:
        text = card(_read_card(access, full_id, head) if CARD in existing else None)
        wanted |= {} if text is None else {CARD: text.encode("utf-8", errors="surrogateescape")}
    gone = set(delete(sorted(existing)) if delete else ()).intersection(existing).difference(wanted)
    change = _Change(
        client,
        full_id,
        revision,
        parent=head.sha,
        message=commit_message,
        add=[call(where, CommitOperationAdd, name, content) for name, content in wanted.items()],
        delete=[CommitOperationDelete(name) for name in sorted(gone)],
        before=call(where, pull_requests, client, full_id) if create_pr else None,
    )
    if change.is_in(head):
        logger.info("%s is already as it should be at %s", full_id, head.sha)
        return f"{client.endpoint}/{full_id}/commit/{head.sha}"
    call(where, change.upload)
    return call(where, change.send)


def _open(
    client: HfApi, repo_id: str, revision: str | None, private: bool | None, *, may_add_branch: bool
) -> tuple[str, ModelInfo]:
    """The repository's full id and the head of the branch; what does not exist is created."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    full_id = repo_id

    def look() -> ModelInfo:
        try:
            return client.model_info(full_id, revision=revision, files_metadata=True)
        except RevisionNotFoundError:
            if revision is None or not may_add_branch or revision.startswith("refs/"):
                raise
            retry(client.create_branch, full_id, branch=revision, exist_ok=True)
            return client.model_info(full_id, revision=revision, files_metadata=True)

    try:
        head = look()
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        full_id = retry(client.create_repo, repo_id, private=private, exist_ok=True).repo_id
        return full_id, look()
    if private is not None and bool(head.private) != private:
        kind, other = ("private", "public") if head.private else ("public", "private")
        raise HubError(
            f"{repo_id!r} is {kind} already, and private={private} would not make it {other}: "
            "change that in its settings on the Hub, or leave out private"
        )
    return full_id, head


def _read_card(access: Access, repo_id: str, head: ModelInfo) -> str:
    path = find_file(access, repo_id, str(head.sha), CARD)
    return "" if path is None else path.read_bytes().decode("utf-8", errors="surrogateescape")


@dataclass
class _Change:
    """One commit that is to be made.

    Attributes:
        parent: The commit that was looked at, on which this one is made or not at all.
        before: The pull requests that were there; None when this is not to be one.
        unsure: Whether a try may have arrived although it failed here.
    """

    client: HfApi
    repo_id: str
    revision: str | None
    parent: str | None
    message: str
    add: list[CommitOperationAdd]
    delete: list[CommitOperationDelete]
    before: set[str] | None
    unsure: bool = False

    def upload(self) -> None:
        """Sends the large files; the commit names them later. What the Hub has already is not sent again."""
        self.client.preupload_lfs_files(
            self.repo_id, self.add, revision=self.revision, create_pr=self.before is not None, free_memory=False
        )

    def send(self) -> str:
        """Makes the commit; returns its address, also when that was made before and only the answer was lost."""
        try:
            commit = self.client.create_commit(
                self.repo_id,
                [*self.add, *self.delete],
                commit_message=self.message,
                revision=self.revision,
                create_pr=self.before is not None,
                parent_commit=self.parent,
            )
        except Exception as error:
            if not is_transient(error) and not self.unsure:
                raise
            self.unsure = True
            address = self._arrived()
            if address is not None:
                return address
            # A second commit on the same parent is refused by the Hub, a second pull request is not.
            if self.before is not None and status_of(error) not in REFUSED:
                setattr(origin(error), FINAL, True)
            raise
        return str(commit.pr_url or commit.commit_url)

    def is_in(self, state: ModelInfo) -> bool:
        """Whether a state of the repository is what this commit would make of it."""
        there = {sibling.rfilename: sibling for sibling in state.siblings or ()}
        if any(operation.path_in_repo in there for operation in self.delete):
            return False
        return all(_is_same(there.get(operation.path_in_repo), operation) for operation in self.add)

    def _arrived(self) -> str | None:
        """The address of the commit when it is on the Hub after all."""
        home = f"{self.client.endpoint}/{self.repo_id}"
        try:
            if self.before is None:
                head = self.client.model_info(self.repo_id, revision=self.revision, files_metadata=True)
                return f"{home}/commit/{head.sha}" if head.sha != self.parent and self.is_in(head) else None
            for ref in pull_requests(self.client, self.repo_id) - self.before:
                if self.is_in(self.client.model_info(self.repo_id, revision=ref, files_metadata=True)):
                    return f"{home}/discussions/{ref.rpartition('/')[2]}"
        except Exception as error:
            logger.debug("cannot see whether the commit arrived (%s)", type(error).__name__)
        return None


def pull_requests(client: HfApi, repo_id: str) -> set[str]:
    """The refs of all pull requests of a repository."""
    refs = retry(client.list_repo_refs, repo_id, include_pull_requests=True)
    return {ref.ref for ref in refs.pull_requests or ()}


def _is_same(there: RepoSibling | None, operation: CommitOperationAdd) -> bool:
    if there is None or there.size not in (None, operation.upload_info.size):
        return False
    if there.lfs is not None:
        return there.lfs.sha256 == operation.upload_info.sha256.hex()
    with operation.as_file() as file:
        content = file.read()
    return there.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
