"""Compiles Triton's one C file at image build time, so that the image needs no compiler.

    python prebuilt_driver.py FOLDER      -> FOLDER/cuda_utils.so

Triton links it against libcuda.so.1, which the NVIDIA runtime brings only at run time: an
empty library of that name stands in while linking (a shared object may leave symbols open).
Without Triton (a CPU build of torch) nothing is written.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def main(folder: str) -> None:
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("triton") is None:
        sys.stdout.write("no Triton in this image: nothing to compile\n")
        return
    with tempfile.TemporaryDirectory() as scratch:
        empty = Path(scratch, "empty.c")
        empty.touch()
        stub = Path(scratch, "libcuda.so.1")
        link = ["gcc", "-shared", "-Wl,-soname,libcuda.so.1", "-o", str(stub), str(empty)]
        subprocess.run(link, check=True)
        os.environ |= {"TRITON_LIBCUDA_PATH": scratch, "TRITON_CACHE_DIR": scratch, "CC": "gcc"}

        from triton.backends.nvidia import driver
        from triton.runtime.build import compile_so_from_file

        built = compile_so_from_file(
            src_path=str(Path(driver.dirname, "driver.c")),
            name="cuda_utils",
            library_dirs=driver.library_dirs(),
            include_dirs=driver.include_dirs,
            libraries=driver.libraries,
        )
        shutil.copyfile(built, target / "cuda_utils.so")
    sys.stdout.write(f"compiled {target / 'cuda_utils.so'}\n")


if __name__ == "__main__":
    main(sys.argv[1])
