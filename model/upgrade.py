"""`python -m model.upgrade models/weather/1`: brings an exported folder up to today's format.

It writes the next version: the same SavedModel and files, with `chunk.onnx`, its parts and the
probe. The folder that is given stays as it is.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from model.export.chunk_graph import add_chunk_graph
from model.export.manifest import FORMAT, file_digests, layer_file, read_manifest, write_manifest
from model.export.versions import next_version


def upgrade(folder: Path) -> Path:
    """Writes the next version of a model in today's format; returns its folder.

    Args:
        folder: `models/<name>/<version>`, of an older format.

    Raises:
        OSError: a folder cannot be read or written.
        ValueError: it is not whole, needs no upgrade, or `chunk.onnx` would not compute what its
            SavedModel does.
    """
    manifest = read_manifest(folder)
    layers = len(manifest["layers"])
    has_parts = layers == 1 or layer_file(0) in manifest["files"]
    if manifest["format"] == FORMAT and has_parts:
        raise ValueError(f"{folder} has the format {FORMAT} already")
    home = folder.resolve().parent
    with next_version(home) as (new, number):
        for name in manifest["files"]:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, new / name)
        probe = add_chunk_graph(new, manifest)
        changed = {"format": FORMAT, "version": number, "upgraded_from": manifest["version"]}
        files = file_digests(new)
        write_manifest(new, {**manifest, **changed, "probe": probe, "files": files})
    return folder.parent / str(number)


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m model.upgrade",
        description="Write the next version of an exported model, in today's format.",
    )
    parser.add_argument("folder", type=Path, help="such as models/weather/1; it stays as it is")
    try:
        print(f"wrote {upgrade(parser.parse_args().folder)}")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
