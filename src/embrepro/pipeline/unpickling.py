"""Pickled weights as safetensors: a program by itself, which `embrepro convert` runs in a container without network.

It needs nothing but torch and safetensors, and never runs on the host: a pickle can hold any program. PyTorch's
`weights_only` refuses all but tensors; the container is there for the day when it does not.
"""

from __future__ import annotations

import sys
from pathlib import Path


def convert(source: Path, target: Path) -> None:
    """Write the weights of each folder of `source` (all its `*.bin` together) as `model.safetensors` in `target`.

    Raises:
        ValueError: a file holds something else than named tensors, or two files hold one name.
    """
    import torch
    from safetensors.torch import save_file

    for folder in sorted({path.parent for path in source.rglob("*.bin")}):
        tensors: dict[str, torch.Tensor] = {}
        for path in sorted(folder.glob("*.bin")):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(loaded, dict):
                raise ValueError(f"{path.name} holds a {type(loaded).__name__}, not named tensors")
            for name, tensor in loaded.items():
                if not isinstance(tensor, torch.Tensor):
                    raise ValueError(f"{path.name}: {name} is a {type(tensor).__name__}, not a tensor")
                if name in tensors:
                    raise ValueError(f"{name} stands in two files of {folder.relative_to(source)}")
                # A copy of each: safetensors takes no tensors that share memory.
                tensors[name] = tensor.detach().clone().contiguous()
        made = target / folder.relative_to(source)
        made.mkdir(parents=True, exist_ok=True)
        save_file(tensors, made / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
