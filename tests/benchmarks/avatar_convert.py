"""`python -m tests.benchmarks.avatar_convert`: memory and time of converting published weights, bf16 and fp8.

Writes files of the published layout with random weights, at the published widths and of a few blocks, converts them in
a process of its own, and watches the memory that process alone holds. All files go at the end.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from pipeline.avatar.tiny import in_fp8, published_tensors
from pipeline.avatar.weights import convert_transformer_file, load_transformer
from tests.avatar.published import PROJECT, private_bytes, watched

GIBIBYTE = 2**30  # bytes
MODULE = "tests.benchmarks.avatar_convert"
LIMIT_GIB = 3.0  # of private memory, whatever the file's size


def write(source: Path, num_layers: int, num_single_layers: int, fp8: bool) -> None:
    """A published file, and for fp8 its map beside it."""
    config = {"num_layers": num_layers, "num_single_layers": num_single_layers}
    tensors = published_tensors(config)
    if fp8:
        tensors, scales = in_fp8(config, tensors)
        torch.save({"module": scales}, source.with_name(f"{source.stem}_map.pt"))
    torch.save({"module": tensors}, source)


def convert(source: Path, target: Path, shard_gib: float) -> None:
    """Convert; print seconds and the private memory before, bytes."""
    scale_map = source.with_name(f"{source.stem}_map.pt")
    before, started = private_bytes(os.getpid()), time.perf_counter()
    convert_transformer_file(source, target, scale_map=scale_map if scale_map.exists() else None, shard_gib=shard_gib)
    print(json.dumps({"seconds": time.perf_counter() - started, "before": before}))


def load(target: Path) -> None:
    """Load what was converted; print seconds and the private memory before and after, bytes."""
    before, started = private_bytes(os.getpid()), time.perf_counter()
    model = load_transformer(target)
    seconds, after = time.perf_counter() - started, private_bytes(os.getpid())
    print(json.dumps({"seconds": seconds, "before": before, "after": after, "parameters": len(model.state_dict())}))


def main() -> int:
    """Run both kinds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--double-blocks", type=int, default=2)
    parser.add_argument("--single-blocks", type=int, default=2)
    parser.add_argument("--shard-gib", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, help="where the files go meanwhile")
    arguments = parser.parse_args()
    missed = False
    for kind in ("bf16", "fp8"):
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            source, target = folder / "mp_rank_00_model_states.pt", folder / "transformer"
            sizes = (arguments.double_blocks, arguments.single_blocks, int(kind == "fp8"))
            subprocess.run([sys.executable, "-m", MODULE, "write", source, *map(str, sizes)], cwd=PROJECT, check=True)
            size = source.stat().st_size
            printed, peak = watched("-m", MODULE, "convert", source, target, arguments.shard_gib)
            converted = json.loads(printed.splitlines()[-1])
            loaded = json.loads(watched("-m", MODULE, "load", target)[0].splitlines()[-1])
            missed |= peak > LIMIT_GIB * GIBIBYTE
            print(
                f"{kind}: file {size / GIBIBYTE:.2f} GiB, {len(list(target.glob('*.safetensors')))} shards, "
                f"{converted['seconds']:.1f} s; private memory at most {peak / GIBIBYTE:.2f} GiB "
                f"({converted['before'] / GIBIBYTE:.2f} before), limit {LIMIT_GIB:.0f} GiB; "
                f"loaded in {loaded['seconds']:.1f} s, "
                f"{(loaded['after'] - loaded['before']) / GIBIBYTE:.2f} GiB of private memory",
                flush=True,
            )
        finally:
            shutil.rmtree(folder)
    return int(missed)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", source, num_layers, num_single_layers, fp8]:
            write(Path(source), int(num_layers), int(num_single_layers), fp8 == "1")
        case ["convert", source, target, shard_gib]:
            convert(Path(source), Path(target), float(shard_gib))
        case ["load", target]:
            load(Path(target))
        case _:
            sys.exit(main())
