"""What XLA is told before a test imports jax."""

import importlib.util
import mmap
from pathlib import Path

PLAINLY = {
    "xla_backend_optimization_level": "0",
    "xla_cpu_use_fusion_emitters": "false",
    "xla_cpu_parallel_codegen_split_count": "1",  # cutting a small program into parts costs more than it saves
}


def xla_flags() -> str:
    """Of the flags that make XLA compile plainly, those that the installed XLA knows: it ends the process at any other."""
    found = importlib.util.find_spec("jaxlib")
    folders = found.submodule_search_locations if found else None
    for library in Path(folders[0]).glob("libjax_common*") if folders else ():
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return " ".join(f"--{flag}={value}" for flag, value in PLAINLY.items() if data.find(flag.encode()) >= 0)
    return ""
