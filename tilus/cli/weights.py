"""Reads and writes arrays of weights: .npy files, and .npz files with headers beside what is prepacked."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilus.cli.formats import HEADER, split_file
from tilus.cli.output import write_output
from tilus.diagnostics import UserError

if TYPE_CHECKING:
    import numpy.typing as npt

    from tilus.runtime.prepacked_array import PrepackedArray

    Array = npt.NDArray[Any]


class ArrayFile:
    """The arrays of a ``FILE`` or ``FILE:NAME``, of which one is chosen.

    Attributes:
        name: the chosen array's; of a .npy file its stem.
        arrays: all of them.
    """

    def __init__(self, text: str, prepacked: bool) -> None:
        """Choose the array of a name; without one the only array that is ``prepacked``, or is not. Raises UserError
        (E0804) where there is no such file or array, or no name says which."""
        import numpy as np

        place = split_file(text)
        if place is None:
            raise UserError.at("E0804", f"there is no file {text!r}")
        self.path, name = place
        try:
            found = np.load(self.path, allow_pickle=False)
            self.arrays: dict[str, Array] = ({self.path.stem: found} if isinstance(found, np.ndarray)
                                             else {key: found[key] for key in found})
        except (OSError, ValueError, EOFError) as problem:
            raise UserError.at("E0804",
                               f"{str(self.path)!r} cannot be read as a .npy or .npz file ({problem})") from None
        kind = "prepacked array" if prepacked else "row-major array"
        names = [key for key in self.arrays
                 if not key.endswith(HEADER) and (key + HEADER in self.arrays) == prepacked]
        wanted = [key for key in names if name in ("", key)]
        if len(wanted) != 1:
            counted = f"no {kind} {name!r}" if name else f"{len(names)} {kind}s" if names else f"no {kind}"
            raise UserError.at("E0804", f"{str(self.path)!r} has {counted}",
                               help=f"name one: FILE:NAME, with {', '.join(names)}" if names else None)
        self.name = wanted[0]

    @property
    def array(self) -> Array:
        return self.arrays[self.name]

    def prepacked(self) -> PrepackedArray:
        """The chosen array with its header. Raises UserError (E0804)."""
        from tilus.runtime.prepacked import prepacked

        try:
            return prepacked(self.array, str(self.arrays[self.name + HEADER]))
        except (TypeError, ValueError) as error:
            raise UserError.at("E0804", f"{self.name!r} of {str(self.path)!r}: {error}") from None

    def write(self, path: Path, array: Array, header: str | None = None) -> None:
        """Write ``array`` in the place of the chosen one; as .npz beside the others, with its header if any."""
        import numpy as np

        memory = io.BytesIO()
        if path.suffix == ".npz":
            others = {key: value for key, value in self.arrays.items() if key not in (self.name, self.name + HEADER)}
            headers = {} if header is None else {self.name + HEADER: np.array(header)}
            np.savez(memory, **{**others, self.name: array, **headers})  # type: ignore[arg-type]
        else:
            np.save(memory, array)
        write_output(path, memory.getvalue())


def suffixed(path: Path, *suffixes: str) -> Path:
    """Raises UserError (E0804) where a path ends otherwise."""
    if path.suffix not in suffixes:
        raise UserError.at("E0804", f"-o {path}: the file's name ends in {' or '.join(suffixes)}")
    return path


__all__ = ["ArrayFile", "suffixed"]
