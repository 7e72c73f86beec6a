"""The release, as far as it goes without a tag: the script's parts, the package, and who may do what."""

import gzip
import hashlib
import io
import os
import re
import tarfile

import pytest
import yaml
from conftest import BUILT, ROOT, TOOLS, run

SCRIPT = ROOT / "deploy/release.sh"
CONTENTS = {"gossipykv", "README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "gossipykv.service"}
VERSION = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)


def release(*arguments, **env):
    return run(SCRIPT, *arguments, env=env)


# What else tells the version.
TOLD = {
    "Cargo.lock": '[[package]]\nname = "gossipykv"\nversion = "1.2.3"\n',
    "fuzz/Cargo.lock": '[[package]]\nname = "gossipykv"\nversion = "1.2.3"\n',
    "deploy/helm/gossipykv/Chart.yaml": "version: 1.2.3\nappVersion: 1.2.3\n",
    "deploy/kubernetes/statefulset.yaml": "spec:\n  image: gossipykv:1.2.3\n",
    "src/http/routes/openapi.json": '{\n "info": {\n  "version": "1.2.3",\n',
}


@pytest.fixture
def sources(tmp_path):
    """Sources of a version 1.2.3 whose changelog tells of it."""
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "gossipykv"\nversion = "1.2.3"\n')
    for name, text in TOLD.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    text = "# Changelog\n\n## 1.2.3 (2026-12-01)\n\n- One.\n\n- Two.\n\n## 1.2.2 (2026-11-01)\n\n- Old.\n"
    (tmp_path / "CHANGELOG.md").write_text(text)
    return tmp_path


def test_a_tag_is_one_version_everywhere(sources):
    def check(tag):
        return release("check", tag, RELEASE_ROOT=str(sources))

    good = check("v1.2.3")
    assert (good.returncode, good.stdout) == (0, "1.2.3\n")
    for tag in ("v1.2.4", "1.2.3", "v1.2.3-rc1"):
        assert check(tag).returncode == 1, tag
    for name, text in TOLD.items():
        for line in re.findall(r".*1\.2\.3.*", text):
            (sources / name).write_text(text.replace(line, line.replace("1.2.3", "1.2.2")))
            wrong = check("v1.2.3")
            assert wrong.returncode == 1 and re.match(rf"{name}( \(\w+\))? has version 1.2.2", wrong.stdout), wrong.stdout
        (sources / name).write_text(text)
    assert check("v1.2.3").returncode == 0
    (sources / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- One.\n")
    assert 'no part "## 1.2.3"' in check("v1.2.3").stdout
    (sources / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 (2026-12-01)\n\n## 1.2.2\n\n- Old.\n")
    assert "says nothing of 1.2.3" in check("v1.2.3").stdout
    (sources / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3\n\n- One.\n")
    assert "no date" in check("v1.2.3").stdout
    (sources / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- Two.\n\n## 1.2.3 (2026-12-01)\n\n- One.\n")
    assert "Unreleased" in check("v1.2.3").stdout


def test_this_version_is_one_everywhere():
    """The day it is tagged and each day before; an unreleased part comes after it, and with it a next version."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    good = release("check", f"v{VERSION}")
    if "\n## Unreleased" in changelog:
        assert "Unreleased" in good.stdout, good.stdout
    else:
        assert (good.returncode, good.stdout) == (0, f"{VERSION}\n")
    assert release("notes").stdout.strip()


def test_the_notes_are_the_changelogs(sources):
    assert release("notes", RELEASE_ROOT=str(sources)).stdout == "- One.\n\n- Two.\n"


def test_the_tarball_is_whole_and_the_same_each_time(tmp_path, report):
    program = tmp_path / "built"
    program.write_bytes(b"#!/bin/sh\n")
    program.chmod(0o700)
    made = []
    for folder in ("one", "two"):
        result = release("pack", program, "arm64", tmp_path / folder, SOURCE_DATE_EPOCH="1700000000")
        name = f"gossipykv-{VERSION}-linux-arm64"
        path = tmp_path / folder / f"{name}.tar.gz"
        assert (result.returncode, result.stdout) == (0, f"{path}\n"), result.stdout
        made.append(path.read_bytes())
        program.touch()
    assert made[0] == made[1]
    members = tarfile.open(fileobj=io.BytesIO(gzip.decompress(made[0]))).getmembers()
    assert {one.name for one in members} == {name, *(f"{name}/{file}" for file in CONTENTS)}
    assert {(one.uid, one.gid, one.mtime) for one in members} == {(0, 0, 1_700_000_000)}
    modes = {one.name.split("/")[-1]: one.mode for one in members}
    assert modes["gossipykv"] == 0o755 and modes["README.md"] == 0o644
    assert release("pack", program, "mips", tmp_path).returncode == 2
    assert release("pack", tmp_path / "absent", "amd64", tmp_path).returncode == 2
    report(f"release.sh pack: {len(members)} members, byte for byte the same twice")


def test_the_sums_are_over_everything(tmp_path):
    assert release("sums", tmp_path).returncode == 1, "nothing is no release"
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)
    for _ in range(2):
        assert release("sums", tmp_path).returncode == 0
        lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
        assert lines == [f"{hashlib.sha256(name.encode()).hexdigest()}  {name}" for name in ("a", "b")]


# -- The package for Debian ---------------------------------------------------------------------


def test_the_package_has_what_is_there():
    import tomllib

    package = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
    deb = package["metadata"]["deb"]
    program, *files = deb["assets"]
    assert program == ["target/release/gossipykv", "usr/bin/", "755"]
    for path, *_ in files:
        # What the program itself makes is made by the workflow.
        made = path.startswith("target/papers/")
        assert (path.removesuffix("/*") in source_of_workflow()) if made else (ROOT / path).is_file(), path
    units = deb["systemd-units"]
    assert (ROOT / units["unit-scripts"] / "gossipykv.service").is_file()
    assert not units["enable"] and not units["start"], "it has no key yet"
    placed = {f"/{where.rstrip('/')}" if not where.endswith("/") else f"/{where}{path.split('/')[-1]}" for path, where, _ in files}
    assert set(deb["conf-files"]) <= placed
    unit = (ROOT / "deploy/systemd/gossipykv.service").read_text()
    assert f"EnvironmentFile=-{deb['conf-files'][0]}\n" in unit
    lines = (ROOT / "deploy/systemd/environment").read_text().splitlines()
    assert all(line.startswith("#") for line in lines), "nothing is set before somebody does"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """What cargo-deb makes of the program, as the workflow has it."""
    cargo_deb = TOOLS / "cargo/bin/cargo-deb"
    # Where cargo-deb looks for it.
    program = BUILT / "release/gossipykv"
    if not program.exists() and os.environ.get("CI") != "true":
        pytest.skip("tests/run release has not been run")
    papers = ROOT / "target/papers"
    run(program, "man", papers / "man", check=True)
    for shell, name in [("bash", "gossipykv.bash"), ("zsh", "_gossipykv"), ("fish", "gossipykv.fish")]:
        (papers / name).write_text(run(program, "completions", shell, check=True).stdout)
    path = tmp_path_factory.mktemp("package") / "gossipykv.deb"
    run(cargo_deb, "--no-build", "--no-strip", "--output", path, "--manifest-path", ROOT / "Cargo.toml", check=True)
    return path


def test_the_package_is_built(package, report):
    listing = run("dpkg-deb", "--contents", package, check=True).stdout
    # Debian has manual pages compressed.
    papers = ["man/man1/gossipykv.1.gz", "man/man1/gossipykv-kv-import.1.gz", "bash-completion/completions/gossipykv"]
    papers += ["zsh/vendor-completions/_gossipykv", "fish/vendor_completions.d/gossipykv.fish"]
    ours = ["usr/bin/gossipykv", "lib/systemd/system/gossipykv.service", "etc/gossipykv/environment"]
    for file in ours + [f"usr/share/{paper}" for paper in papers]:
        assert re.search(rf"\./(usr/)?{file}\n", listing), listing
    control = run("dpkg-deb", "--info", package, check=True).stdout
    assert "Package: gossipykv" in control and f"Version: {VERSION}" in control
    (depends,) = re.findall(r"^ Depends: (.*)$", control, re.M)
    assert depends == "init-system-helpers", "a static program needs no library"
    report(f"cargo-deb: {package.stat().st_size} bytes, {len(listing.splitlines())} entries, no library needed")


def test_an_upgrade_of_the_package_restarts_no_node(package, tmp_path):
    """Machines that upgrade at the same moment would end all nodes at once, and the data with them."""
    run("dpkg-deb", "--control", package, tmp_path / "control", check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "control").iterdir()}
    assert not re.search(r"\b(re|try-re)?start\b", made["postinst"]), made["postinst"]
    (stop,) = re.findall(r"^if (.*); then\n\s+deb-systemd-invoke stop", made["prerm"], re.M)
    assert '"$1" = remove' in stop, made["prerm"]
    assert "/etc/needrestart/conf.d/gossipykv.conf" in made["conffiles"].split()
    # As needrestart reads it, which restarts what runs of a file that was replaced.
    run("dpkg-deb", "--extract", package, tmp_path / "root", check=True)
    snippet = tmp_path / "root/etc/needrestart/conf.d/gossipykv.conf"
    reads = """our %nrconf = (override_rc => {}); local (@ARGV, $/) = shift; eval <>; die $@ if $@;
               print join ",", map { "gossipykv.service" =~ /$_/ ? $nrconf{override_rc}{$_} : "no" } keys %{$nrconf{override_rc}}"""
    assert run("perl", "-e", reads, snippet, check=True).stdout == "0"


def test_what_the_package_installs_is_whole(package, tmp_path, report):
    root = tmp_path / "root"
    run("dpkg-deb", "--extract", package, root, check=True)
    (unit,) = root.glob("**/systemd/system/gossipykv.service")
    program = root / "usr/bin/gossipykv"
    assert f"gossipykv {VERSION} " in run(program, "version", check=True).stdout
    copy = tmp_path / "gossipykv.service"
    copy.write_text(unit.read_text().replace("ExecStart=gossipykv ", f"ExecStart={program} "))
    verified = run("systemd-analyze", "verify", copy)
    assert (verified.returncode, verified.stdout) == (0, ""), verified.stdout
    pages = sorted((root / "usr/share/man/man1").glob("*.1.gz"))
    for page in pages:
        text = gzip.decompress(page.read_bytes()).decode()
        assert ".TH" in text and ".SH NAME" in text, page.name
    run("bash", "-n", root / "usr/share/bash-completion/completions/gossipykv", check=True)
    report(f"the package: its unit verifies, {len(pages)} pages of the manual")


# -- The workflow -------------------------------------------------------------------------------


def source_of_workflow():
    return (ROOT / ".github/workflows/release.yml").read_text()


def workflow():
    made = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    return made, made["jobs"]


def commands(job):
    return "\n".join(step.get("run", "") for step in job["steps"])


def test_who_writes_compiles_nothing_and_who_compiles_writes_nothing():
    made, jobs = workflow()
    assert made[True] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}} and made["permissions"] == {}
    for name, job in jobs.items():
        rights = job["permissions"]
        assert rights["contents"] == ("write" if name == "publish" else "read"), name
        writes = any(right == "write" for right in rights.values())
        assert not (writes and "cargo " in commands(job)), name
        # What is in the shell came through the environment, and not into the text.
        assert "${{" not in commands(job), name
    assert set(jobs["publish"]["needs"]) == {"check", "build", "image"}
    assert jobs["publish"]["environment"] == "release", "where somebody may have to agree"


def test_both_machines_are_built_and_everything_is_attested():
    _, jobs = workflow()
    rows = jobs["build"]["strategy"]["matrix"]["include"]
    assert {(row["arch"], row["target"]) for row in rows} == {
        ("amd64", "x86_64-unknown-linux-gnu"), ("arm64", "aarch64-unknown-linux-gnu"),
    }  # fmt: skip
    assert "--platform linux/amd64,linux/arm64" in commands(jobs["image"])
    attested = [step["with"] for name in ("image", "publish") for step in jobs[name]["steps"] if "actions/attest@" in step.get("uses", "")]
    assert [set(one) for one in attested] == [
        {"subject-name", "subject-digest", "push-to-registry"}, {"subject-checksums"},
        {"subject-path", "sbom-path"}, {"subject-path", "sbom-path"},
        {"subject-name", "subject-digest", "sbom-path"}, {"subject-name", "subject-digest", "sbom-path"},
    ]  # fmt: skip
    built = commands(jobs["build"])
    for word in ("cargo auditable build --release --locked", "cargo deb ", "cargo cyclonedx ", "+crt-static"):
        assert word in built + str(jobs["build"]["steps"]), word
    # Tools that pack are of one version each, as the sources are.
    (tools,) = re.findall(r"cargo install --locked (.*)", built)
    assert all(re.fullmatch(r"[\w-]+@[\d.]+", tool) for tool in tools.split())
    used = set(re.findall(r"deploy/release\.sh (\w+)", "\n".join(commands(job) for job in jobs.values())))
    assert used == {"check", "pack", "sums", "notes"}
