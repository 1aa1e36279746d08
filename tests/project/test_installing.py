"""What `make` installs, for CPUs and for GPUs, and what it does where there is no GPU."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import tensorflow as tf

from tests.gpu import __main__ as gpu_tests

REQUIREMENTS = sorted(Path().glob("requirements*.txt"))


def make(*arguments: str) -> str:
    """What `make` prints. It must end well."""
    # Under `make test` its own variables, such as VENV, would be passed on.
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MF"))
    }
    ours.pop("GPU", None)
    run = subprocess.run(["make", *arguments], capture_output=True, text=True, env=ours)
    assert run.returncode == 0, run.stderr
    return run.stdout


def installs(venv: Path, *arguments: str) -> list[str]:
    """The requirements that would be installed, in order."""
    return re.findall(r"pip install .*-r (\S+)", make("-n", f"VENV={venv}", *arguments))


def pins(requirements: Path) -> dict[str, str]:
    """Package to version, of the lines that name a version."""
    lines = requirements.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment that `make run` has made."""
    for stamp in (".made", ".installed"):
        (tmp_path / stamp).touch()
    return tmp_path


@pytest.mark.parametrize("target", ["run", "train"])
def test_cuda_is_installed_where_it_is_asked_for(venv: Path, target: str) -> None:
    assert installs(venv, target) == []
    assert installs(venv, target, "GPU=0") == []
    assert installs(venv, target, "GPU=1") == ["requirements-gpu.txt"]
    (venv / ".installed-gpu").touch()
    assert installs(venv, target, "GPU=1") == []
    # What is there stays.
    assert installs(venv, target) == []


def test_cuda_is_installed_into_a_new_environment(tmp_path: Path) -> None:
    assert installs(tmp_path, "run", "GPU=1") == ["requirements.txt", "requirements-gpu.txt"]


def test_cuda_is_brought_up_to_new_requirements(venv: Path) -> None:
    (venv / ".installed-gpu").touch()
    os.utime(venv / ".installed", (0, 0))
    assert installs(venv, "run") == ["requirements.txt"]
    assert installs(venv, "run", "GPU=1") == ["requirements.txt", "requirements-gpu.txt"]


@pytest.mark.parametrize("target", ["test", "bench", "bench-training"])
def test_checks_can_have_cuda_too(venv: Path, target: str) -> None:
    assert "requirements-gpu.txt" not in installs(venv, target)
    assert "requirements-gpu.txt" in installs(venv, target, "GPU=1")


def test_without_a_driver_test_gpu_says_so_and_installs_nothing(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    said = make("test-gpu", "DRIVER=", f"VENV={venv}")
    assert re.fullmatch(r"no GPU was tested: this machine has no NVIDIA driver .*\n", said)
    assert not venv.exists()


def test_with_a_driver_test_gpu_installs_cuda_and_looks_for_a_gpu(venv: Path) -> None:
    arguments = ("test-gpu", "DRIVER=/dev/nvidiactl")
    assert installs(venv, *arguments) == ["requirements-dev.txt", "requirements-gpu.txt"]
    assert "python -m tests.gpu\n" in make("-n", f"VENV={venv}", *arguments)


@pytest.mark.parametrize(
    ("why", "said"),
    [("libcudnn.so.9 cannot be loaded", "libcudnn.so.9 cannot be loaded"), (None, "TensorFlow .*")],
)
def test_why_there_is_no_gpu_is_told_in_a_line(
    why: str | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(gpu_tests, "why_no_gpu", lambda: why)
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("there is nothing to run on"))
    gpu_tests.main()
    assert re.fullmatch(rf"no GPU was tested: {said}\n", capsys.readouterr().out)


def test_where_there_is_a_gpu_its_tests_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"the {kind}"])
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: started.append(command))
    gpu_tests.main()
    assert started[0][1:] == ["-m", "pytest", "-m", "gpu", "tests/gpu", "--session-timeout=360"]


@pytest.mark.parametrize("image", ["serve-slim", "serve", "train", "gpu"])
def test_a_lock_has_what_its_requirements_pin(image: str) -> None:
    """Else `make lock` was forgotten."""
    text = Path("locks", f"{image}.txt").read_text(encoding="utf-8")
    locked = dict(
        re.findall(r"^([A-Za-z0-9_.-]+)==(\S+) \\\n    --hash=sha256:", text, re.MULTILINE)
    )
    assert len(locked) == len(re.findall(r"^[^ #\n]", text, re.MULTILINE)), "one has no hash"
    requirements, wanted = [Path(f"requirements-{image}.txt")], dict[str, str]()
    while requirements:
        wanted |= pins(path := requirements.pop())
        names = re.findall(r"^-r (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        requirements += map(Path, names)
    assert wanted.items() <= locked.items()
    assert len(wanted) >= 3


def test_no_version_of_the_gpus_requirements_stands_twice() -> None:
    """TensorFlow's version comes from the file that limits it."""
    gpu = Path("requirements-gpu.txt")
    lines = gpu.read_text(encoding="utf-8").splitlines()
    (limits,) = [line.removeprefix("-c ") for line in lines if line.startswith("-c ")]
    assert "tensorflow[and-cuda]" in lines
    assert "tensorflow" in pins(Path(limits))
    others = {name for path in REQUIREMENTS if path != gpu for name in pins(path)}
    assert not others & pins(gpu).keys()


def test_a_package_has_one_version_everywhere() -> None:
    """Images are made of some of the files, the environment of all."""
    found: dict[str, set[str]] = {}
    for path in REQUIREMENTS:
        for name, version in pins(path).items():
            found.setdefault(re.sub(r"\[.*\]", "", name), set()).add(version)
    assert {name: versions for name, versions in found.items() if len(versions) > 1} == {}


def test_the_versions_that_are_documented_are_installed() -> None:
    documented = Path("docs/devices.md").read_text(encoding="utf-8")
    gpu = pins(Path("requirements-gpu.txt"))
    (cudnn, cublas, nvcc) = (
        gpu[f"nvidia-{name}-cu12"] for name in ("cudnn", "cublas", "cuda-nvcc")
    )
    assert f"| TensorFlow | {pins(Path('requirements-train.txt'))['tensorflow']}," in documented
    assert f"| cuDNN | {cudnn.rpartition('.')[0]} |" in documented
    assert f"cuBLAS {cublas.rpartition('.')[0]} and ptxas {nvcc} are pinned" in documented
