"""The files around the code agree: pyproject, constraints, conda, Makefile, workflow, README, licences."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z.][a-z-]*):(?!=)", MAKEFILE, flags=re.MULTILINE))
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def requirements(*extras: str) -> list[Requirement]:
    """What the package and these extras ask for, less the references from one extra to another."""
    optional = PROJECT["optional-dependencies"]
    texts = PROJECT["dependencies"] + [text for extra in extras for text in optional[extra]]
    return [r for r in map(Requirement, texts) if r.name != PROJECT["name"]]


def repository_files() -> list[str]:
    """Everything that is tracked or about to be: not what git ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make` in a folder, on its own: what an outer make and its variables say does not reach it."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def readme_commands() -> set[str]:
    """The targets that the README names in code, as in `make test`."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.findall(r"^```.*?^```|`[^`\n]+`", readme, flags=re.MULTILINE | re.DOTALL)
    return {target for text in code for target in re.findall(r"\bmake (\.?[a-z][a-z-]*)", text)}


# --- what is installed --------------------------------------------------------------------------------------


def test_both_conda_files_are_the_same():
    assert (ROOT / "environment.yml").read_bytes() == (ROOT / "binder/environment.yml").read_bytes()


def test_conda_asks_for_what_pyproject_asks_for():
    wanted = {f"{CONDA_NAMES.get(r.name, r.name)}{r.specifier}" for r in requirements("train", "course")}
    conda = set(yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"])
    python = {text for text in conda if re.match(r"python\b", text)}
    assert conda - python - {"pip"} == wanted
    # Binder's builder reads a version only after an equals sign, and takes an old Python if it finds none.
    (version,) = (re.fullmatch(r"python=(3\.\d+)", text) for text in python)
    assert version is not None
    assert f"Programming Language :: Python :: {version[1]}" in PROJECT["classifiers"]


def test_constraints_fit_every_extra():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    versions = {canonicalize_name(name): version for name, version in pins.items()}
    assert len(versions) == len(pins), "a package is pinned twice"
    assert not [line for line in lines if "+" in line and "==" in line], "a local version fits one build only"
    for requirement in requirements(*PROJECT["optional-dependencies"]):
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, str(requirement)


def test_the_core_needs_torch_alone():
    assert [r.name for r in requirements()] == ["torch"]


def test_the_workflow_runs_every_python_that_pyproject_names():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["test"]
    classifiers = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]
    assert job["strategy"]["matrix"]["python-version"] == classifiers
    assert PROJECT["requires-python"] == f">={classifiers[0]}"
    assert ".ci/run" in [step.get("run") for step in job["steps"]]


# --- make ---------------------------------------------------------------------------------------------------


def test_help_lists_every_target_and_every_variable():
    shown = make(ROOT).stdout
    assert set(re.findall(r"^  make (\S+)", shown, flags=re.MULTILINE)) == TARGETS
    variables = re.findall(r"^([A-Z_]+) \??= ?(.*)$", MAKEFILE, flags=re.MULTILINE)
    assert variables
    for name, default in variables:
        assert re.search(rf"^  {name}={re.escape(default)}(\s|$)", shown, flags=re.MULTILINE), name


def test_variables_reach_the_command():
    words = {
        "DATA": "my corpus",
        "PAIR": "de-en",
        "PROFILE": "ci",
        "SEED": "7",
        "OUT": "here",
        "ARGS": "--resume",
    }
    shown = make(ROOT, "-n", "distill", *(f"{name}={value}" for name, value in words.items())).stdout
    command = '--data "my corpus" --pair de-en --profile ci --seed 7 --out "here" --resume'
    assert f".venv/bin/kdlab distill {command}\n" in shown


STUB_PYTHON = """#!/bin/sh
echo "$@" >> calls
case "$*" in
  "-m venv"*) rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *"-m pip"*) test ! -e offline ;;
esac
"""


@pytest.fixture
def fresh_clone(tmp_path: Path) -> Path:
    """A folder with the files that the set-up needs, and a Python that only writes down how it was called."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "stub").write_text(STUB_PYTHON, encoding="utf-8")
    (tmp_path / "stub").chmod(0o755)
    return tmp_path


def calls(folder: Path) -> list[str]:
    """The calls of the stub since this was last asked."""
    log = folder / "calls"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [line for line in lines if line.startswith("-m")]


def test_the_environment_is_set_up_once_from_the_constraints(fresh_clone: Path):
    assert make(fresh_clone, ".venv", "PYTHON=./stub", "PIP_ARGS=--more").returncode == 0
    create, install = calls(fresh_clone)
    assert create == "-m venv --clear .venv"
    assert "--constraint constraints.txt --more --editable .[" in install
    assert make(fresh_clone, ".venv", "PYTHON=./stub").returncode == 0
    assert calls(fresh_clone) == []


def test_a_set_up_that_broke_off_starts_again_from_nothing(fresh_clone: Path):
    (fresh_clone / "offline").touch()
    assert make(fresh_clone, ".venv", "PYTHON=./stub").returncode != 0
    (fresh_clone / "offline").unlink()
    calls(fresh_clone)
    assert make(fresh_clone, ".venv", "PYTHON=./stub").returncode == 0
    assert calls(fresh_clone)[0] == "-m venv --clear .venv"


def test_a_changed_pyproject_updates_the_environment_in_place(fresh_clone: Path):
    make(fresh_clone, ".venv", "PYTHON=./stub")
    calls(fresh_clone)
    assert make(fresh_clone, ".venv", "PYTHON=./stub", "-W", "pyproject.toml").returncode == 0
    (update,) = calls(fresh_clone)
    assert update.startswith("-m pip install")


OLD_PYTHON = f"""#!/bin/sh
case "$1" in
  --version) echo Python 3.10.14 ;;
  -c) exec {sys.executable} -c "import sys; sys.version_info = (3, 10, 14); $2" ;;
esac
"""


def test_an_old_python_is_refused_by_name(fresh_clone: Path):
    old = fresh_clone / "old"
    old.write_text(OLD_PYTHON, encoding="utf-8")
    old.chmod(0o755)
    result = make(fresh_clone, ".venv", "PYTHON=./old")
    assert result.returncode != 0
    assert "Python 3.11 or newer, but PYTHON=./old is: Python 3.10.14" in result.stderr
    assert not (fresh_clone / ".venv").exists()


@pytest.mark.parametrize(
    "target", ["course", "distill", "lab", "notebooks", "test", "test-all", "lint", "format", "bench"]
)
def test_every_command_sets_the_environment_up_first(fresh_clone: Path, target: str):
    first, *_ = (line for line in make(fresh_clone, "-n", target).stdout.splitlines() if ".venv/bin" in line)
    assert first.startswith(".venv/bin/python -m pip install")


# --- README, CI, licences -----------------------------------------------------------------------------------


def test_the_readme_names_commands_that_exist():
    named = readme_commands()
    assert {"distill", "test"} <= named
    assert named <= TARGETS


def test_continuous_integration_runs_the_readme_s_test_command():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert os.access(ROOT / "binder/postBuild", os.X_OK)
    assert "test" in readme_commands()
    assert "make test" in script.read_text(encoding="utf-8").splitlines()


def test_the_licences_are_there():
    apache = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in apache
    assert "END OF TERMS AND CONDITIONS" in apache
    text = (ROOT / "LICENSE-CC-BY-4.0").read_text(encoding="utf-8")
    assert "https://creativecommons.org/licenses/by/4.0/" in text
    assert "Section 8 – Interpretation." in text
    assert PROJECT["license"] == "Apache-2.0"


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "kdlab/py.typed").exists()


def test_no_file_names_a_registry_or_a_path_of_one_machine():
    # Where packages come from is the reader's own setting, and such a path exists on one machine only.
    host = r"\b(?:pypi|pythonhosted|npmjs|anaconda|debian)\.(?:org|com)\b|\bdownload\.pytorch\."
    path = r"(?<![\w.~/-])/(?:root|work|Users/\w+)/"
    found = []
    for name in repository_files():
        text = (ROOT / name).read_bytes().decode("utf-8", errors="ignore")
        found += [f"{name}: {match[0]}" for match in re.finditer(f"{host}|{path}", text)]
    assert found == []
