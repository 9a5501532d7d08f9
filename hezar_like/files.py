"""Names and atomic saving of the files of a model folder."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import stat
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from .errors import CheckpointError, HubError

__all__ = ["Staging", "check_name", "existing_folder", "stage"]

MAX_NAME_BYTES = 255
ORPHAN_SECONDS = 24 * 60 * 60
TEMPORARY_PREFIX = ".hezar_like-save-"
# The host is part of the name because a process id says nothing on a folder that several hosts share.
HOST = re.sub(r"\W", "_", platform.node())[:40] or "host"


def check_name(name: str, where: str) -> str:
    """Checks a file name that comes from a config, an index or a repository.

    Args:
        name: The name, with '/' between folders.
        where: The file or field it was read from, for the message.

    Returns:
        The same name.

    Raises:
        CheckpointError: When it is not a plain relative path inside the model folder.
    """
    plain = (
        isinstance(name, str)
        and not any(part in ("", ".", "..") for part in name.split("/"))
        and not any(letter in "\\:" or unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
        and len(name.encode()) <= MAX_NAME_BYTES
    )
    if not plain:
        shown = repr(name) if len(repr(name)) <= 100 else repr(name)[:100] + "..."
        raise CheckpointError(
            f"file names must be inside the model folder, and {where} has {shown}: "
            f"use a relative name of at most {MAX_NAME_BYTES} bytes such as 'model.safetensors'"
        )
    return name


def existing_folder(path: str | os.PathLike[str]) -> Path:
    """A folder that must be there.

    Raises:
        HubError: When it is not.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise HubError(
            f"there is no folder {str(path)!r}; check the path, or leave out load_locally=True to ask the Hub"
        )
    return folder


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
            self._check_target(name)
            if wanted:
                _make_durable(self.temporary / name, mode)
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        for name, wanted in self._steps.items():
            if wanted:
                os.replace(self.temporary / name, self.folder / name)
            else:
                (self.folder / name).unlink(missing_ok=True)
        for parent in {(self.folder / name).parent for name in self._steps}:
            if parent.is_dir():
                _sync_folder(parent)

    def _check_target(self, name: str) -> None:
        target = self.folder / name
        if target.is_dir() and not target.is_symlink():
            raise HubError(f"cannot save to {str(target)!r}: it is a folder; move it away or choose another folder")
        for parent in target.relative_to(self.folder).parents:
            if parent != Path(".") and (self.folder / parent).is_symlink():
                raise HubError(
                    f"cannot save {name!r}: {str(self.folder / parent)!r} is a link to another place; "
                    f"remove the link or choose another folder"
                )


@contextlib.contextmanager
def stage(folder: Path) -> Iterator[Staging]:
    """Saves a set of files so that a full disk or a kill leaves the old ones.

    The files are written to a hidden folder inside `folder`. When the block ends well they are flushed to the disk and
    moved over the old ones, and files given to `remove` are deleted, one step after the other in the order in which
    they were asked for. So ask in this order: weights, their index, `remove` of the old weights that the new ones
    replace, other files, and the config last. A save that is cut off between two of these steps then leaves whole
    files: the old weights or the new ones. Old and new shards of the same names can mix in that moment, since several
    files cannot be replaced at once. When the block raises, the old files are untouched.

    Folders that killed saves left behind are deleted: those of dead processes of this host, and any older than a day.

    Args:
        folder: The target; it and its parents are created when missing.

    Yields:
        The `Staging` to ask for paths.

    Raises:
        HubError: When the target is a file, read-only or full, or a file that was asked for was not written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{HOST}-{os.getpid()}-", dir=folder))
    except (FileExistsError, NotADirectoryError) as error:
        raise HubError(f"cannot save to {str(folder)!r}: a file stands in its way; choose another folder") from error
    except OSError as error:
        raise _disk_error(folder, error) from error
    try:
        staging = Staging(folder, temporary)
        yield staging
        staging._commit()
    except HubError:
        raise
    except OSError as error:
        raise _disk_error(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _disk_error(folder: Path, error: OSError) -> HubError:
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
