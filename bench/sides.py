"""The sides of a comparison: adtape, and the peers, which are found, and where need be built, but never installed."""

import dataclasses
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

PEERS = pathlib.Path(__file__).resolve().parent / "peers"
PYTHON = sys.executable


@dataclasses.dataclass
class Side:
    key: str
    name: str
    programs: list  # of command lines
    environment: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Missing:
    """A peer that is not there."""

    name: str
    why: str  # and how to get it


# ---- the environment of a program ------------------------------------------------------------------------------------

# Variables that change how fast a library is behind our back.
IGNORED = ("OPENBLAS_", "GOTO_", "BLIS_", "MKL_", "NVPL_", "OMP_", "GOMP_", "KMP_", "ATEN_", "TORCH", "XLA_", "JAX_")


def ignored_variables():
    return {name: value for name, value in os.environ.items() if name.startswith(IGNORED)}


def environment(side, threads):
    """Of a program that is to use so many threads."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(IGNORED)}
    number = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC", "ADTAPE_THREADS"}
    return kept | dict.fromkeys(number, str(threads)) | (side.environment if side else {})


def has_avx512():
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return all(f" {flag} " in flags for flag in ("avx512f", "avx512bw", "avx512dq", "avx512vl"))


# ---- finding and building --------------------------------------------------------------------------------------------


def programs(pattern):
    return sorted(PEERS.glob(pattern))


def python_package(name):
    """Version and folder of a package of PYTHON's, or None. Importing it would take seconds."""
    code = (
        "import importlib.util, importlib.metadata, sys\n"
        "print(importlib.metadata.version(sys.argv[1]))\n"
        "print(importlib.util.find_spec(sys.argv[1]).submodule_search_locations[0])"
    )
    done = subprocess.run([PYTHON, "-c", code, name], capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[:2] if done.returncode == 0 else None


def compiler(variable, *names):
    """The command of a compiler, as a list, or None."""
    if variable in os.environ:
        return shlex.split(os.environ[variable])
    return next(([name] for name in names if shutil.which(name)), None)


def run(line, output):
    """Whether a command succeeds."""
    try:
        done = subprocess.run(line, stdout=output, stderr=output, stdin=subprocess.DEVNULL, check=False)
    except OSError:
        return False
    return done.returncode == 0


def compiles(command, text, *flags):
    """Whether a program can be built with these flags."""
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "probe.cpp")
        source.write_text(text)
        line = [*command, source, "-o", pathlib.Path(folder, "probe"), *flags]
        return run(line, subprocess.DEVNULL)


def built(source, command, flags, build, progress):
    """The program made of a source, built again when that or the command changed; None and a note if it cannot be."""
    target = build / "bench" / "peers" / source.stem
    stamp, log = target.with_suffix(".command"), target.with_suffix(".log")
    line = [*command, str(source), "-o", str(target), *flags]
    changed = max(path.stat().st_mtime for path in (source, PEERS / "peer.hpp"))
    is_new = target.exists() and target.stat().st_mtime > changed
    if is_new and stamp.exists() and stamp.read_text() == shlex.join(line):
        return target
    progress.note(f"building {source.name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        is_built = run(line, output)
    if not is_built:
        progress.note(f"{source.name} does not build: see {log}")
        return None
    stamp.write_text(shlex.join(line))
    return target


def built_side(key, name, pattern, command, flags, build, progress, tuning=None):
    made = [built(source, command, flags, build, progress) for source in programs(pattern)]
    made = [[program] for program in made if program]
    if not made:
        return Missing(name, "it could not be built")
    return Side(key, name, made, tuning or {})


# ---- the peers -------------------------------------------------------------------------------------------------------


def torch(_build, _progress, key="torch", name="PyTorch", *flags):
    package = python_package("torch")
    if not package:
        return Missing(name, "pip install torch==2.13.0")
    lines = [[PYTHON, str(path), *flags] for path in programs("torch_*.py")]
    return Side(key, f"{name} {package[0].split('+')[0]}", lines, aten_tuning())


def compiled_torch(build, progress):
    if not compiler("CXX", "g++", "clang++"):
        return Missing("torch.compile", "it needs a C++ compiler (apt install g++)")
    return torch(build, progress, "compile", "torch.compile", "--compile")


def libtorch(build, progress):
    name, package, command = "libtorch", python_package("torch"), compiler("CXX", "g++", "clang++")
    if not package or not command:
        return Missing(name, "pip install torch==2.13.0, which brings it, and a C++ compiler (apt install g++)")
    version, folder = package
    include = [f"-isystem{folder}/include", f"-isystem{folder}/include/torch/csrc/api/include"]
    link = [f"-L{folder}/lib", f"-Wl,-rpath,{folder}/lib", "-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu", "-lc10"]
    flags = ["-std=c++20", "-O2", *include, *link]
    name = f"libtorch {version.split('+')[0]}"
    return built_side("libtorch", name, "libtorch_*.cpp", command, flags, build, progress, aten_tuning())


def aten_tuning():
    return {"ATEN_CPU_CAPABILITY": "avx512"} if has_avx512() else {}


def jax(build, _progress):
    package = python_package("jax")
    if not package:
        return Missing("JAX", "pip install jax==0.10.2")
    # Compiling does not count, so it need not be done again in each round.
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(build / "bench" / "peers" / "jax-cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return Side("jax", f"JAX {package[0]} jit", [[PYTHON, str(path)] for path in programs("jax_*.py")], cache)


def adolc(build, progress):
    command = compiler("CXX", "g++", "clang++")
    if not command or not compiles(command, "#include <adolc/adolc.h>\nint main() {}", "-ladolc"):
        return Missing("ADOL-C", "apt install libadolc-dev g++")
    return built_side("adolc", "ADOL-C", "adolc_*.cpp", command, ["-O2", "-ladolc"], build, progress)


def cblas(build, progress):
    command = compiler("CXX", "g++", "clang++")
    probe = "#include <cblas.h>\nint main() { return !openblas_get_corename(); }"
    if not command or not compiles(command, probe, "-lopenblas"):
        return Missing("OpenBLAS", "apt install libopenblas-dev g++")
    tuning = {"OPENBLAS_CORETYPE": "SkylakeX"} if has_avx512() else {}
    flags = ["-O2", "-lopenblas"]
    return built_side("cblas", "OpenBLAS", "cblas_*.cpp", command, flags, build, progress, tuning)


FINDERS = {
    "torch": torch,
    "compile": compiled_torch,
    "libtorch": libtorch,
    "jax": jax,
    "adolc": adolc,
    "cblas": cblas,
}


def choose(text):
    """The keys in a list of peers; all of them for None. ValueError for one that does not exist."""
    if text is None:
        return list(FINDERS)
    keys = [] if text == "none" else text.split(",")
    for key in keys:
        if key not in FINDERS:
            raise ValueError(f"there is no peer '{key}': {', '.join(FINDERS)}, or none")
    return keys


def given(text):
    """The side that NAME=COMMAND names, or NAME=BUILD: all programs of another build. ValueError otherwise."""
    name, _, command = text.partition("=")
    if not name or not command:
        raise ValueError(f"--peer wants NAME=COMMAND or NAME=BUILD, not '{text}'")
    if not pathlib.Path(command, "bench").is_dir():
        return Side(name, name, [shlex.split(command)])
    there = [pathlib.Path(command, "bench", program) for program in our_programs()]
    return Side(name, name, [[path.resolve()] for path in there if path.is_file()])


def our_programs():
    """The names of those that measure cases: of every bench/*.c but floor.c."""
    return sorted(path.stem for path in PEERS.parent.glob("*.c") if path.stem != "floor")


def find(keys, build, progress):
    """A Side or what is Missing, for each of the keys."""
    return [FINDERS[key](build, progress) for key in keys]
