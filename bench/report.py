"""What was measured, written into docs/benchmarks.md between its markers: no figure is typed by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.figures import Figure, read

PAGE = Path("docs/benchmarks.md")


def update(build: Path, page: Path = PAGE) -> None:
    """Replace what stands between `<!-- NAME: measured -->` and `<!-- NAME: end -->`, for each NAME.json."""
    text = page.read_text("utf-8")
    for path in sorted(build.glob("*.json")):
        begin, end = f"<!-- {path.stem}: measured -->", f"<!-- {path.stem}: end -->"
        if begin in text and end in text:
            before, _, rest = text.partition(begin)
            figures, about = read(path)
            text = f"{before}{begin}\n{markdown(figures, about)}\n{end}{rest.partition(end)[2]}"
            print(f"{page}: {len(figures)} figures of {path}")
    page.write_text(text, "utf-8")


def markdown(figures: list[Figure], about: Mapping[str, Any]) -> str:
    """Return the run, its machine, its versions and a table."""
    machine = about["machine"]
    on = (
        f"{machine['cores']} cores of {machine['cpu']} ({', '.join(machine['instructions'])}), "
        f"{machine['memory_gb']:g} GB, {machine['system']}, Python {machine['python']}"
    )
    lines = [
        f"`{about['command']}` on {about['day']}: {on}.",
        "",
        f"Versions: {', '.join(f'{name} {number}' for name, number in _versions(figures).items())}.",
        "",
        "| what | value | bar | met | beside |",
        "|---|---|---|---|---|",
    ]
    for each in figures:
        beside = "; ".join(text for text in (each.peer, each.note) if text)
        cells = (each.name, f"{each.value_text} {each.unit}", each.bar_text, each.met_text, beside)
        lines.append("| " + " | ".join(cell.strip().replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _versions(figures: list[Figure]) -> dict[str, str]:
    return dict(sorted({name: of for each in figures for name, of in each.versions.items()}.items()))
