"""Files of the user's, which are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from tilus.diagnostics import UserError


def write_whole(path: Path, data: bytes) -> None:
    """Write a whole file; what stood there before stays where it can't be written.

    Raises:
        UserError: E0804, the file cannot be written.
    """
    import errno
    import os
    import tempfile

    try:
        if path.exists() and not path.is_file():  # a device or a pipe
            path.write_bytes(data)
            return
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(handle, "wb") as file:
                file.write(data)
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~mask)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise UserError.at("E0804", f"cannot write {str(path)!r}: {error.strerror}",
                           help="see that there is room for it, and no limit on the size of files" if full else
                           "name a file in a folder that exists and can be written") from error


def make_folder(path: Path) -> None:
    """Make a folder, and those that it is in, where it is not there.

    Raises:
        UserError: E0804, there can be none.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError.at("E0804", f"cannot make the folder {str(path)!r}: {error.strerror}",
                           help="name one in a folder that exists and can be written") from error


__all__ = ["make_folder", "write_whole"]
