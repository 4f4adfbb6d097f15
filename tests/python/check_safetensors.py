"""The reference implementation writes a file, strand reads it and writes it again: the bytes must be the same, and the
reference must read the shards that strand makes of it.   check_safetensors.py SAMPLE_FILES"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file


def main(sample_files):
    rng = np.random.default_rng(1)
    tensors = {
        "model.embed.weight": rng.standard_normal((7, 5)).astype(np.float32),
        "a": np.array([np.nan, np.inf, -0.0, 1e-40], dtype=np.float32),
        "scalar": np.array(3, dtype=np.int64),
        "empty": np.zeros((0, 4), dtype=np.float64),
        "ids": rng.integers(0, 65536, 9).astype(np.uint16),
        "bytes \"ü\\": rng.integers(0, 256, (2, 3, 1, 1, 2)).astype(np.uint8),
        "i32": np.array([-(2**31), 2**31 - 1], dtype=np.int32),
    }
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        theirs, ours, shards = folder / "theirs.safetensors", folder / "ours.safetensors", folder / "shards"
        shards.mkdir()
        save_file(tensors, theirs, metadata={"format": "pt"})
        subprocess.run([sample_files, "rewrite", theirs, ours], check=True)
        assert ours.read_bytes() == theirs.read_bytes(), "the rewritten file differs"

        subprocess.run([sample_files, "shards", theirs, shards], check=True)
        index = json.loads((shards / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors.values())
        assert set(index["weight_map"]) == set(tensors)
        assert len(set(index["weight_map"].values())) > 1
        for name, file in index["weight_map"].items():
            with safe_open(shards / file, framework="numpy") as f:
                found = f.get_tensor(name)
            assert found.dtype == tensors[name].dtype and found.shape == tensors[name].shape, name
            assert found.tobytes() == tensors[name].tobytes(), name
    print(f"safetensors: {len(tensors)} tensors, byte for byte")


if __name__ == "__main__":
    main(sys.argv[1])
