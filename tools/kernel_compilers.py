"""How the files of kernels/ become one code object a target: the only place with compiler flags.

AMD targets (gfx...) need clang, llvm-link and lld of one LLVM, version 19 or later; neither HIP
headers nor device libraries. sm_... targets need nvcc and are there to run the same kernels on
NVIDIA hardware.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
KERNELS = ROOT / "kernels"
INCLUDES = (f"-I{KERNELS}", f"-I{ROOT / 'native'}")

# What users' GPUs are. The second line is of compilers newer than clang 19, or of LLVM's generic targets:
# for processors that have none of their own, by rocmforge/model/gpu_devices.py.
AMD_TARGETS = (
    *("gfx906", "gfx908", "gfx90a", "gfx942", "gfx1030", "gfx1100", "gfx1101", "gfx1102"),
    *("gfx1150", "gfx1151", "gfx1200", "gfx1201"),
)
AMD_TARGETS_IF_KNOWN = (
    *("gfx950", "gfx9-generic", "gfx9-4-generic", "gfx10-3-generic", "gfx11-generic"),
    "gfx12-generic",
)

# Without contraction of a * b + c, so that
# results do not depend on the compiler; kernels that want an FMA ask for one. LLVM's
# load/store vectorizer merged loads of different sizes from one base as if they were neighbours until
# March 2026: kernels load 16 bytes where they mean it, so nothing is lost without it.
AMD_FLAGS = (
    "-x",
    "hip",
    "-std=c++20",
    "-O3",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-ffp-contract=off",
    "-nogpuinc",
    "-nogpulib",
    "-mllvm",
    "-amdgpu-load-store-vectorizer=0",
    "--offload-device-only",
    "--no-gpu-bundle-output",
)
NVIDIA_FLAGS = (
    "-x",
    "cu",
    "-std=c++20",
    "-O3",
    "-fmad=false",
    "--expt-relaxed-constexpr",
    "-rdc=true",
    "-cubin",
)


def sources() -> list[Path]:
    return sorted(KERNELS.glob("*.hip"))


def suffix(target: str) -> str:
    return ".cubin" if target.startswith("sm_") else ".hsaco"


def code_object_version(target: str) -> str:
    """5 is what every ROCm since 5.3 loads; generic targets came with 6, of which clang 19 warns."""
    return f"-mcode-object-version={6 if target.endswith('-generic') else 5}"


def _amd_flags(target: str) -> list[str]:
    is_generic = target.endswith("-generic")
    flags = [flag for flag in AMD_FLAGS if not (is_generic and flag == "-Werror")]
    return [*flags, code_object_version(target)]


def all_amd_targets() -> list[str]:
    """What a wheel for everybody has: as much of it as the compiler knows."""
    known = subprocess.run(
        [tool("clang"), "--target=amdgcn-amd-amdhsa", "-nogpulib", "--print-supported-cpus"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = set((known.stdout + known.stderr).split())
    return [*AMD_TARGETS, *(target for target in AMD_TARGETS_IF_KNOWN if target in names)]


def tool(name: str) -> str:
    """The path of an LLVM tool: from $ROCM_PATH or /opt/rocm, else Debian's, newest first."""
    rocm = Path(os.environ.get("ROCM_PATH", "/opt/rocm")) / "llvm/bin" / name
    versions = [f"{name}-{version}" for version in (22, 21, 20, 19)]
    for candidate in (str(rocm), *versions, name):
        if found := shutil.which(candidate):
            return found
    msg = f"neither {rocm} nor {versions[-1]} or newer is installed"
    raise FileNotFoundError(msg)


def build(target: str, out: Path, jobs: int) -> Path:
    """Compiles every kernel for a target. Raises CalledProcessError with the compiler's text."""
    pieces = out / "pieces" / target
    pieces.mkdir(parents=True, exist_ok=True)
    compile_one = _compile_nvidia if target.startswith("sm_") else _compile_amd
    with ThreadPoolExecutor(jobs) as pool:
        objects = list(pool.map(lambda source: compile_one(target, source, pieces), sources()))
    whole = out / f"{target}{suffix(target)}"
    if target.startswith("sm_"):
        _run("nvlink", f"-arch={target}", "-o", str(whole), *objects)
    else:
        _link_amd(target, objects, pieces, whole)
    return whole


def _compile_amd(target: str, source: Path, pieces: Path) -> str:
    bitcode = str(pieces / f"{source.stem}.bc")
    arguments = (f"--offload-arch={target}", "-emit-llvm", "-c", "-o", bitcode, str(source))
    _run(tool("clang++"), *_amd_flags(target), *INCLUDES, *arguments)
    return bitcode


def _link_amd(target: str, objects: list[str], pieces: Path, whole: Path) -> None:
    bitcode = str(pieces / "all.bc")
    _run(tool("llvm-link"), "-o", bitcode, *objects)
    _run(
        tool("clang"),
        "--target=amdgcn-amd-amdhsa",
        f"-mcpu={target}",
        code_object_version(target),
        "-nogpulib",
        "-O3",
        "-Xclang",
        "-disable-llvm-passes",  # each file is optimized already
        "-x",
        "ir",
        bitcode,
        "-o",
        str(whole),
    )


def _compile_nvidia(target: str, source: Path, pieces: Path) -> str:
    cubin = str(pieces / f"{source.stem}.cubin")
    _run("nvcc", *NVIDIA_FLAGS, f"-arch={target}", *INCLUDES, "-o", cubin, str(source))
    return cubin


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
