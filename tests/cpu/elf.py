"""What tests ask of ELF files."""

from __future__ import annotations

import struct

_MACHINES = {62: "x86_64", 183: "aarch64"}


def architecture(data: bytes) -> str:
    """The architecture that an ELF file is for."""
    assert data[:4] == b"\x7fELF"
    return _MACHINES[struct.unpack_from("<H", data, 18)[0]]


def undefined(data: bytes) -> set[str]:
    """The names that an ELF object of 64 bits takes from elsewhere."""
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, _ = struct.unpack_from("<3H", data, 58)
    headers = [struct.unpack_from("<IIQQQQII", data, table + size * i) for i in range(count)]
    found = set()
    for _, kind, _, _, offset, length, link, _ in headers:
        if kind == 2:
            names = headers[link][4]
            for entry in range(offset, offset + length, 24):
                name, section = struct.unpack_from("<I2xH", data, entry)
                if name and not section:
                    found.add(data[names + name : data.index(b"\0", names + name)].decode())
    return found
