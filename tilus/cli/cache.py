"""``tilus cache``: where the cache of compiled kernels lies, what is in it; check it, clear it."""

from __future__ import annotations

import click

from tilus.diagnostics import Diagnostic, Severity, ToolchainError
from tilus.runtime.cache import default_cache


@click.group("cache")
def command() -> None:
    """Look at, check and clear the cache of compiled kernels.

    It lies in $TILUS_CACHE_DIR, else in $XDG_CACHE_HOME/tilus, else in ~/.cache/tilus.
    """


@command.command()
def path() -> None:
    """Print the cache's directory."""
    click.echo(default_cache().path)


@command.command()
def stats() -> None:
    """Print how many entries there are and what they take."""
    found = default_cache().stats()
    click.echo(f"path             {found.path}")
    click.echo(f"entries          {found.entries}")
    click.echo(f"size             {found.bytes / 2**20:.1f} MiB of at most {found.max_bytes / 2**20:.0f} MiB")
    click.echo(f"temporary files  {found.temporary_files}")


@command.command()
def clear() -> None:
    """Remove every entry."""
    click.echo(f"removed {default_cache().clear()} entries")


@command.command()
def verify() -> None:
    """Read every entry against its checksum and remove what is damaged; exit with 1 if anything was."""
    cache = default_cache()
    count = cache.stats().entries
    damaged = cache.verify()
    click.echo(f"{count} entries read, {len(damaged)} damaged and removed")
    if damaged:
        raise ToolchainError(Diagnostic("E0903", f"{len(damaged)} damaged entries were removed", notes=tuple(damaged),
                                        help="nothing is lost: they are built again when needed",
                                        severity=Severity.WARNING))
