"""Long lines of C, broken after commas."""

from __future__ import annotations

WIDTH = 120


def wrapped(pad: str, text: str) -> list[str]:
    """A statement or a head behind ``pad``, on as many lines as it takes; those after the first are further in. Lines
    with strings stay whole."""
    line = pad + text
    text = line.lstrip()
    pad = line[: len(line) - len(text)]
    if len(line) <= WIDTH or '"' in text or text.startswith("//"):
        return [line]
    lines: list[str] = []
    current = pad
    for piece in text.split(", "):
        glue = ", " if current.strip() else ""
        if glue and len(current) + len(glue) + len(piece) > WIDTH - 1:
            lines.append(f"{current},")
            current = f"{pad}    {piece}"
        else:
            current += glue + piece
    return [*lines, current]
