"""Copy the icons named in ``icons.txt`` from Phosphor (MIT) into ``resources/icons``: ``python3 packaging/icons.py``.

Needs npm, and is only run when a name is added; the icons themselves are kept in the repository. ``NAME-fill`` is taken
from the filled weight, every other from the regular one.
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "@phosphor-icons/core@2.1.1"
ROOT = Path(__file__).resolve().parents[1]
NAMES = ROOT / "packaging" / "icons.txt"
OURS = "dinoviz.svg"
SHEET = {
    "arrow": ("caret-down", {"light": "#5A6270", "dark": "#A0A8B5"}),
    "tick": ("check", {"light": "#FFFFFF", "dark": "#0C1220"}),
}
"""Pictures of the style sheet, with their colours of ``dinoviz.theme``: muted, and that of text on the accent."""
TARGET = ROOT / "resources" / "icons"


def main() -> int:
    """Copy what is named and drop what is not; return 1 where a name is unknown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--package", type=Path, help="folder of the unpacked package; fetched by npm otherwise")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        package = asked.package or _fetched(Path(scratch))
        return _copy(package)


def _fetched(scratch: Path) -> Path:
    subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=scratch, check=True)
    with tarfile.open(next(scratch.glob("*.tgz"))) as archive:
        archive.extractall(scratch, filter="data")
    return scratch / "package"


def _copy(package: Path) -> int:
    names = sorted(set(NAMES.read_text(encoding="utf-8").split()))
    NAMES.write_text("\n".join(names) + "\n", encoding="utf-8")
    sources = {name: package / "assets" / _weight(name) / f"{name}.svg" for name in names}
    unknown = [name for name, source in sources.items() if not source.exists()]
    TARGET.mkdir(parents=True, exist_ok=True)
    for old in TARGET.glob("*.svg"):
        if old.name != OURS:
            old.unlink()
    for name, source in sources.items():
        if name not in unknown:
            shutil.copyfile(source, TARGET / f"{name}.svg")
    for name, (icon, colours) in SHEET.items():
        for mode, colour in colours.items():
            drawn = (TARGET / f"{icon}.svg").read_text(encoding="utf-8").replace("currentColor", colour)
            (TARGET / f"sheet-{name}-{mode}.svg").write_text(drawn, encoding="utf-8")
    shutil.copyfile(package / "LICENSE", TARGET / "LICENSE")
    if unknown:
        sys.stderr.write(f"Phosphor has no icon named: {', '.join(unknown)}\n")
    return 1 if unknown else 0


def _weight(name: str) -> str:
    return "fill" if name.endswith("-fill") else "regular"


if __name__ == "__main__":
    sys.exit(main())
