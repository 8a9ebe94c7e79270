"""The compiled CPU backend: row kernels and bfloat16 products from cpu_rows.cpp.

Built on first use with the machine's C++ compiler (a few seconds) into the user's cache folder,
under a name that hashes source, compiler, flags, torch and processor. Measured against plain
torch and against torch.compile of the row functions in docs/performance_kernels.md; those lost.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from rlnorm.kernels.products import TorchProducts
from rlnorm.kernels.rows import Block, Partials, PerRow, RowInputs, RowScalars

SOURCE = Path(__file__).with_name("cpu_rows.cpp")
BUILD_TIMEOUT_S = 120
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math")
_POINTER, _INT, _LONG, _FLOAT = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_float
_LETTERS = {
    "p": _POINTER, "i": _INT, "l": _LONG, "f": _FLOAT, "s": ctypes.POINTER(_POINTER),
}  # fmt: skip
# one letter per argument, in the order of cpu_rows.cpp; s: the array of row scalars
_SIGNATURES = {
    "has_bfloat16_products": "",
    "statistics": "plllppfiipi",
    "kept_mass": "plllpfpppi",
    "gradient": "plllppfsplii",
    "logits": "plllpllpli",
    "accumulate": "pllllpllpli",
}


@cache
def library() -> ctypes.CDLL:
    """The compiled file, built if it is not in the cache.

    Raises RuntimeError with the reason (no compiler, a failed build, an unloadable file).
    """
    command = _command()
    path = _cache_folder() / f"kernels-{_fingerprint(command)}.so"
    if not path.exists():
        _build(command, path)
    try:
        built = ctypes.CDLL(str(path))
        for name, arguments in _SIGNATURES.items():
            getattr(built, name).argtypes = [_LETTERS[x] for x in arguments]
    except (OSError, AttributeError) as error:
        raise RuntimeError(f"backend 'cpp': {path} does not load: {error}") from error
    return built


def _cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "rlnorm"


def _command() -> list[str]:
    names = (os.environ.get("CXX"), "g++", "c++", "clang++")
    compiler = next((found for name in names if name and (found := shutil.which(name))), None)
    if compiler is None:
        raise RuntimeError("backend 'cpp': no C++ compiler found; set CXX or install g++")
    wide = ["-mprefer-vector-width=512"] if platform.machine() == "x86_64" else []
    torch_lib = str(Path(torch.__file__).parent / "lib")
    return [
        compiler,
        *FLAGS,
        *wide,
        "-shared",
        "-fPIC",
        str(SOURCE),
        f"-L{torch_lib}",
        "-ltorch_cpu",
    ]


def _fingerprint(command: list[str]) -> str:
    cpuinfo = Path("/proc/cpuinfo")
    processor = platform.processor()
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        processor = next((x for x in lines if x.startswith(("flags", "Features"))), processor)
    parts = (SOURCE.read_text(), *command, torch.__version__, processor)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _build(command: list[str], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            fresh = Path(folder) / path.name
            subprocess.run(
                [*command, "-o", str(fresh)],
                check=True,
                capture_output=True,
                text=True,
                timeout=BUILD_TIMEOUT_S,
            )
            # several processes may build at once: the last complete file wins
            os.replace(fresh, path)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"backend 'cpp': {command[0]} failed: {error.stderr[-500:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"backend 'cpp': the build failed: {error}") from error


def _floats(x: Tensor) -> Float[Tensor, " c"]:
    return x.to(torch.float32).contiguous()


class CppRows:
    """Row kernels over float32 logits with unit column stride."""

    name = "cpp"

    def statistics(self, z: Block, rows: RowInputs, *, entropy: bool, squares: bool) -> Partials:
        c, w = z.shape
        if w == 0:
            return Partials.of_nothing(z)
        out = z.new_empty((5, c))
        targets, scale = rows.targets.contiguous(), _floats(rows.inv_temperature)
        library().statistics(
            z.data_ptr(), c, w, z.stride(0), targets.data_ptr(), scale.data_ptr(),
            rows.softcap or 0.0, entropy, squares, out.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return Partials(*out.unbind())

    def kept_mass(
        self, z: Block, rows: RowInputs, peak: PerRow, offset: PerRow
    ) -> tuple[PerRow, PerRow]:
        c, w = z.shape
        out = z.new_empty((2, c))
        scale, peak, offset = _floats(rows.inv_temperature), _floats(peak), _floats(offset)
        library().kept_mass(
            z.data_ptr(), c, w, z.stride(0), scale.data_ptr(), rows.softcap or 0.0,
            peak.data_ptr(), offset.data_ptr(), out.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return out[0], out[1]

    def gradient(self, z: Block, rows: RowInputs, scalars: RowScalars, out: Block) -> None:
        c, w = z.shape
        native = out if out.dtype in (torch.float32, torch.bfloat16) else torch.empty_like(z)
        targets, scale = rows.targets.contiguous(), _floats(rows.inv_temperature)
        held = [None if x is None else _floats(x) for x in scalars]
        pointers = (_POINTER * len(held))(*(None if x is None else x.data_ptr() for x in held))
        library().gradient(
            z.data_ptr(), c, w, z.stride(0), targets.data_ptr(), scale.data_ptr(),
            rows.softcap or 0.0, pointers, native.data_ptr(), native.stride(0),
            native.dtype == torch.bfloat16, torch.get_num_threads(),
        )  # fmt: skip
        if native is not out:
            out.copy_(native)


class CppProducts(TorchProducts):
    """Multiplies bfloat16 operands without widening where the processor can; float32 results."""

    def __init__(self) -> None:
        super().__init__()
        self._bfloat16 = bool(library().has_bfloat16_products())

    def operand(self, x: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
        # an odd inner dimension has no pairs to multiply
        if self._bfloat16 and x.dtype == torch.bfloat16 and x.shape[1] % 2 == 0:
            return x.contiguous()
        return super().operand(x)

    def logits(
        self, h: Float[Tensor, "c d"], w: Float[Tensor, "k d"], out: Float[Tensor, "c k"]
    ) -> None:
        if h.dtype != torch.bfloat16:
            return super().logits(h, w, out)
        failed = library().logits(
            h.data_ptr(), *h.shape, h.stride(0), w.data_ptr(), w.shape[0], w.stride(0),
            out.data_ptr(), out.stride(0), torch.get_num_threads(),
        )  # fmt: skip
        if failed:
            raise RuntimeError("backend 'cpp': torch refused a bfloat16 product")

    def add(
        self, total: Float[Tensor, "m n"], x: Float[Tensor, "m k"], y: Float[Tensor, "k n"]
    ) -> None:
        if x.dtype != torch.bfloat16:
            return super().add(total, x, y)
        failed = library().accumulate(
            x.data_ptr(), *x.shape, *x.stride(), y.data_ptr(), y.shape[1], y.stride(0),
            total.data_ptr(), total.stride(0), torch.get_num_threads(),
        )  # fmt: skip
        if failed:
            raise RuntimeError("backend 'cpp': torch refused a bfloat16 product")
