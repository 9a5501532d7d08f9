"""Atomic saving of the files of a model folder.

All files of a save change at once. They are written to a hidden folder, which is then renamed to `PENDING`: from that
moment on the new files count, and `located` finds them there. Then they are moved to their places one by one. A process
that is killed before the rename leaves the old files, and after it the new ones; the next save clears up.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import CheckpointError, HubError
from .paths import check_name

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Staging", "disk_error", "located", "lock", "stage"]

ORPHAN_SECONDS = 24 * 60 * 60
TEMPORARY_PREFIX = ".hezar_like-save-"
PENDING = ".hezar_like-commit"
STEPS = ".steps.json"
# The host is part of the name because a process id says nothing on a folder that several hosts share.
HOST = re.sub(r"\W", "_", platform.node())[:40] or "host"


class Staging:
    """Collects the files of one save; `stage` makes it.

    Calling it with a name gives the temporary path to write that file to. Nothing in the target folder changes before
    all files are written.
    """

    def __init__(self, folder: Path, temporary: Path) -> None:
        self.folder = folder
        self.temporary = temporary
        self._steps: dict[str, bool] = {}  # name -> True to put in place, False to delete; in the order asked for

    def __call__(self, name: str) -> Path:
        """Gives the temporary path of a file that the caller must write before the `with` block ends.

        Args:
            name: The file's name in the target folder, such as "model.safetensors" or "preprocessor/tokenizer.json".
        """
        path = self.temporary / check_name(name, "this save")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._steps[name] = True
        return path

    def remove(self, name: str) -> None:
        """Asks for a file of an earlier save to be deleted. It need not exist; a name of this save is kept.

        Args:
            name: The file's name in the target folder.
        """
        self._steps.setdefault(check_name(name, "this save"), False)

    def _commit(self) -> None:
        """Puts all files in place. What can fail is done before the first old file changes."""
        mode = _mode_of_new_files(self.temporary)
        for name, wanted in self._steps.items():
            _check_target(self.folder, name)
            if wanted:
                _make_durable(self.temporary / name, mode)
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        steps = self.temporary / STEPS
        steps.write_text(json.dumps(self._steps), encoding="utf-8")
        _make_durable(steps, mode)
        for parent in {(self.temporary / name).parent for name in self._steps}:
            if parent.is_dir():
                _sync_folder(parent)
        with _locked(self.folder):
            _finish(self.folder)
            os.rename(self.temporary, self.folder / PENDING)
            _sync_folder(self.folder)
            _finish(self.folder)


def located(folder: Path, name: str) -> Path | None:
    """Where a file of a folder is; None when it is not there.

    That is also what a save has not moved to its place, because it was killed.

    Args:
        folder: A model's folder.
        name: A name that `check_name` lets pass.
    """
    pending = folder / PENDING
    if pending.is_dir():
        with _locked(folder):  # a save that goes on is through in a moment
            steps = _steps(pending)
        if steps.get(name) is False:
            return None
        if name in steps and (pending / name).is_file():
            return pending / name
    path = folder / name
    return path if path.is_file() else None


def _finish(folder: Path) -> None:
    """Moves the files of a save that counts already to their places."""
    pending = folder / PENDING
    steps = _steps(pending)
    for name in steps:
        _check_target(folder, name)
    for name, wanted in steps.items():
        if not wanted:
            (folder / name).unlink(missing_ok=True)
        elif (pending / name).is_file():  # else it was moved before the kill
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(pending / name, folder / name)
    for parent in {(folder / name).parent for name in steps}:
        if parent.is_dir():
            _sync_folder(parent)
    if pending.is_dir():
        shutil.rmtree(pending)


def _steps(pending: Path) -> dict[str, bool]:
    """What a save that counts does: its files' names, and whether each is written or deleted; nothing if all is done.

    The folder may come from a stranger, so the names are checked like all others.
    """
    try:
        steps = json.loads((pending / STEPS).read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise disk_error(pending, error) from error
    except (ValueError, RecursionError):
        steps = None
    if not isinstance(steps, dict) or not all(isinstance(wanted, bool) for wanted in steps.values()):
        raise CheckpointError(f"{str(pending)!r} is no save that was cut off; remove this folder, or save elsewhere")
    return {check_name(name, repr(str(pending / STEPS))): wanted for name, wanted in steps.items()}


def lock(descriptor: int, *, wait: bool) -> None:
    """Keeps all others out who ask for the same, until a file or folder is closed.

    Windows, and some file systems of networks, cannot do that: there nothing is kept apart.

    Args:
        descriptor: Of the open file or folder.
        wait: Whether to wait for who has it.

    Raises:
        BlockingIOError: When somebody has it, and that is not waited for.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        return


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps all others out who change the files of a folder, where that can be done."""
    descriptor = None
    with contextlib.suppress(OSError):  # a folder that can be opened is not given everywhere
        descriptor = os.open(folder, os.O_RDONLY)
        lock(descriptor, wait=True)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _check_target(folder: Path, name: str) -> None:
    target = folder / name
    if target.is_dir() and not target.is_symlink():
        raise HubError(f"cannot save to {str(target)!r}: it is a folder; move it away or choose another folder")
    for parent in target.relative_to(folder).parents:
        if parent != Path(".") and (folder / parent).is_symlink():
            raise HubError(
                f"cannot save {name!r}: {str(folder / parent)!r} is a link to another place; "
                f"remove the link or choose another folder"
            )


@contextlib.contextmanager
def stage(folder: Path) -> Iterator[Staging]:
    """Saves a set of files so that a full disk or a kill leaves the old ones.

    The files are written to a hidden folder inside `folder`. When the block ends well they are flushed to the disk and
    replace the old ones, and files given to `remove` are deleted, all at once for who reads with `located`. For other
    readers it is one step after the other in the order in which they were asked for; so ask in this order: weights,
    their index, `remove` of the old weights that the new ones replace, other files, and the config last. When the block
    raises, the old files are untouched.

    What killed saves left behind is finished where it counts already, and else deleted: folders of dead processes of
    this host, and any older than a day.

    Args:
        folder: The target; it and its parents are created when missing.

    Yields:
        The `Staging` to ask for paths.

    Raises:
        HubError: When the target is a file, read-only or full, or a file that was asked for was not written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            _finish(folder)
        _sweep(folder)
        temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{HOST}-{os.getpid()}-", dir=folder))
    except (FileExistsError, NotADirectoryError) as error:
        raise HubError(f"cannot save to {str(folder)!r}: a file stands in its way; choose another folder") from error
    except OSError as error:
        raise disk_error(folder, error) from error
    try:
        staging = Staging(folder, temporary)
        yield staging
        staging._commit()
    except HubError:
        raise
    except OSError as error:
        raise disk_error(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def disk_error(folder: Path, error: OSError) -> HubError:
    """What to say of a folder that cannot be written to."""
    reason = error.strerror or str(error) or type(error).__name__
    at = f" at {error.filename!r}" if error.filename else ""
    return HubError(
        f"cannot save to {str(folder)!r}: {reason}{at}; check the space and the permissions there, "
        f"or choose another folder"
    )


def _mode_of_new_files(temporary: Path) -> int:
    """The permissions that the umask gives; asking the process for its umask would change it for other threads."""
    probe = temporary / ".mode"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    return mode


def _make_durable(path: Path, mode: int) -> None:
    if not path.is_file():
        raise HubError(f"{path.name!r} was announced for this save but not written; write it before the block ends")
    path.chmod(mode)
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system lets a folder be opened; the files are safe by now
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sweep(folder: Path) -> None:
    for orphan in folder.glob(f"{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):  # another save may sweep it at the same moment
            old = time.time() - orphan.lstat().st_mtime > ORPHAN_SECONDS
            if old or _owner_is_dead(orphan.name):
                shutil.rmtree(orphan)


def _owner_is_dead(name: str) -> bool:
    match = re.fullmatch(re.escape(f"{TEMPORARY_PREFIX}{HOST}") + r"-(\d+)-[^-]+", name)
    if match is None or os.name != "posix":  # elsewhere, signal 0 would end the process
        return False
    try:
        os.kill(int(match[1]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False
