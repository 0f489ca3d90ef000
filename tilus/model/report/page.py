"""A profile as one page that refers to nothing outside of itself."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import UserError
from tilus.model.report.text import PIPES, SHOWN, facts
from tilus.model.steps import REASONS

if TYPE_CHECKING:
    from tilus.model.profile import LaunchProfile, Profile

MOST_LINES = 60

TEMPLATE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<style>
.tilus {font: 14px/1.4 system-ui, sans-serif; max-width: 70em; margin: 1em auto; padding: 0 1em}
.tilus table {border-collapse: collapse} .tilus td, .tilus th {padding: 2px 8px; text-align: left; vertical-align: top}
.tilus .number {text-align: right; white-space: nowrap} .tilus code {font-size: 12px; white-space: pre}
.tilus .bar {display: flex; width: 16em; height: 1em; background: #eef0f3}
.tilus .bar span {display: block; height: 100%}
.tilus svg {max-width: 100%; height: auto} .tilus .note {color: #667}
</style></head><body><div class="tilus">
<h1>{{ title }}</h1>
<p class="note">All figures are a cost model's; nothing has been measured.</p>
{% for launch in launches %}
<h2>{{ launch.name }}</h2>
<table>{% for name, value in launch.facts %}<tr><th>{{ name }}</th><td>{{ value }}</td></tr>{% endfor %}</table>
{% for text in launch.assumed %}<p class="note">assumed: {{ text }}</p>{% endfor %}
<h3>Busy</h3>
<table>{% for name, share in launch.busy %}<tr><td>{{ name }}</td><td><div class="bar"><span style="width:
{{- (share * 100) | round(1) }}%; background: #30638e"></span></div></td>
<td class="number">{{ "%.0f" | format(share * 100) }} %</td></tr>{% endfor %}</table>
<h3>Roofline</h3>{{ launch.roofline | safe }}
<h3>Lines</h3>
<p>{% for name, colour in reasons %}<span style="background: {{ colour }}">&emsp;</span> {{ name }}&ensp;
{% endfor %}</p>
<table><tr><th>line</th><th>source</th><th class="number">instructions</th><th class="number">issued</th>
<th class="number">waited</th><th>for</th></tr>
{% for line in launch.lines %}<tr><td class="number">{{ line.where }}</td><td><code>{{ line.text }}</code></td>
<td class="number">{{ line.instructions }}</td><td class="number">{{ "%.1f" | format(line.issued * 100) }} %</td>
<td class="number">{{ "%.1f" | format(line.waited * 100) }} %</td>
<td><div class="bar">{% for colour, share, name in line.parts %}<span title="{{ name }}" style="width:
{{- (share * 100) | round(2) }}%; background: {{ colour }}"></span>{% endfor %}</div></td></tr>{% endfor %}</table>
<h3>An iteration of the longest loop, one warp</h3>{{ launch.time_line | safe }}
<h3>Occupancy</h3>{{ launch.occupancy | safe }}
{% endfor %}
</div></body></html>
"""


def profile_page(profile: Profile) -> str:
    """The page. Raises UserError (E0804) where the packages for it are not installed."""
    for package in ("jinja2", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            raise UserError.at("E0804", f"a page needs the package {package}, which is not installed",
                               help="pip install 'tilus[profile]'")
    import jinja2

    from tilus.model.report.pictures import COLOURS

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(TEMPLATE).render(
        title=profile.title, reasons=list(zip(REASONS, COLOURS, strict=True)), launches=list(map(_launch, profile)))


def _launch(launch: LaunchProfile) -> dict[str, Any]:
    from tilus.model.report.pictures import occupancy, roofline, time_line

    busy = sorted(launch.model.busy.items(), key=lambda item: -item[1])
    lines = [line for line in launch.lines()[:MOST_LINES] if line.waited + line.issued >= SHOWN / 10]
    longest = max((line.waited for line in lines), default=1.0) or 1.0
    return {
        "name": launch.name, "facts": facts(launch), "assumed": launch.model.assumed,
        "busy": [(PIPES.get(name, name), min(1.0, share)) for name, share in busy if share >= SHOWN],
        "lines": [_line(line, longest) for line in lines], "roofline": roofline(launch),
        "time_line": time_line(launch), "occupancy": occupancy(launch),
    }


def _line(line: Any, longest: float) -> dict[str, Any]:
    from tilus.model.report.pictures import COLOURS

    parts = [(COLOURS[r], line.reasons[reason] * line.waited / longest, reason)
             for r, reason in enumerate(REASONS) if reason in line.reasons]
    return {"where": line.number if line.file else f"{line.number:04x}", "text": line.text, "parts": parts,
            "instructions": line.instructions, "issued": line.issued, "waited": line.waited}


__all__ = ["profile_page"]
