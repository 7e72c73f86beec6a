"""The image, built for real by the plain builder from a base made here."""

import json
import os
import pathlib
import re
import shutil

import engine
import pytest
from conftest import ROOT, run

DEPENDENCIES = "cargo build --release --locked;     rm -rf src"


def test_it_is_small_and_whole(image, binary, report):
    megabytes = image["Size"] / 1e6
    assert megabytes < 15
    linked = run("ldd", binary).stdout
    assert "statically linked" in linked or "not a dynamic executable" in linked, linked
    report(f"image built by docker: {megabytes:.2f} MB, {linked.strip()}")
    # Nothing but the program, and what Docker itself puts in.
    container = engine.docker("create", engine.NODE)
    listing = run("sh", "-c", f"docker export {container} | tar -tf -", check=True).stdout.split()
    engine.docker("rm", container)
    own = {".dockerenv", "dev/", "etc/", "proc/", "sys/"}
    assert [name for name in listing if name not in own and not name.startswith(("dev/", "etc/"))] == ["gossipykv"]


def test_how_it_starts(image):
    config = image["Config"]
    assert config["Entrypoint"] == ["/gossipykv"] and config["Cmd"] == ["agent"]
    assert config["User"] == "65532:65532" and config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "/gossipykv", "health"]
    assert set(config["ExposedPorts"]) == {"8080/tcp", "7947/tcp", "7947/udp"}
    labels = config["Labels"]
    for name in ("title", "description", "licenses", "version", "revision", "created"):
        assert labels[f"org.opencontainers.image.{name}"], name
    assert image["Architecture"] == "amd64"


def test_it_runs_with_nothing(image):
    shown = engine.docker(
        "run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none",
        "--security-opt", "no-new-privileges", engine.NODE, "version",
    )  # fmt: skip
    assert shown.startswith(f"gossipykv {engine.VERSION} (commit 0123456789ab"), shown
    wrong = run("docker", "run", "--rm", "--network", "none", engine.NODE, "agent", "--bind", "nowhere")
    assert wrong.returncode == 2 and "--bind" in wrong.stdout, wrong.stdout


def test_dependencies_outlive_a_change_of_source(image, tmp_path, report):
    """A source that cannot compile: the build ends there, and shows what it took from the cache."""
    for name in ("Cargo.toml", "Cargo.lock", "build.rs", "Dockerfile", ".dockerignore"):
        shutil.copy2(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src")
    (tmp_path / "src/lib.rs").write_text("}\n")
    result = engine.build(pathlib.Path(tmp_path), check=False)
    assert result.returncode != 0 and "unexpected closing delimiter" in result.stdout, result.stdout
    steps = re.split(r"^Step \d+/\d+ : ", result.stdout, flags=re.M)
    (dependencies,) = [step for step in steps if DEPENDENCIES in step]
    assert "---> Using cache" in dependencies
    assert result.stdout.count("Compiling") == 1, "the program alone"
    report("after a change of source the layer of the dependencies comes from the cache")


def plain(*_):
    base = ("--build-arg", f"RUST_IMAGE={engine.STUB}")
    run("docker", "build", *base, *engine.ARGUMENTS, "--tag", f"{engine.STUB}-made", ROOT, check=True)
    return json.loads(engine.docker("image", "inspect", f"{engine.STUB}-made"))[0]


def buildkit(arch, _):
    return engine.build_by_buildkit(arch, engine.STUB, f"{engine.STUB}-made")


def buildah(arch, folder):
    base = ["--build-arg", f"RUST_IMAGE=localhost/{engine.STUB}", "--pull-never"]
    engine.docker("save", "--output", folder / "stub.tar", engine.STUB)
    try:
        # Layers upon layers are not to be had on every file system; whole copies are.
        for driver in ("overlay", "vfs"):
            command = ["buildah", "--storage-driver", driver, "--root", folder / driver, "--runroot", folder / "run"]
            pulled = run(*command, "pull", f"docker-archive:{folder / 'stub.tar'}")
            if pulled.returncode == 0:
                break
        assert pulled.returncode == 0, pulled.stdout
        run(
            *command, "build", "--isolation", "chroot", "--format", "docker", "--platform", f"linux/{arch}",
            "--build-arg", f"TARGETARCH={arch}", *base, *engine.ARGUMENTS, "--tag", "made", ROOT, check=True,
        )  # fmt: skip
        inspected = json.loads(run(*command, "inspect", "--type", "image", "made", check=True).stdout)
    finally:
        for driver in ("overlay", "vfs"):
            run("umount", folder / driver / driver)
            shutil.rmtree(folder / driver, ignore_errors=True)
        (folder / "stub.tar").unlink()
    return {"Architecture": inspected["OCIv1"]["architecture"], "Config": inspected["Docker"]["config"]}


# The plain builder builds for its own machine only.
@pytest.mark.parametrize("arch, builders", [("amd64", [plain, buildkit]), ("arm64", [buildkit, buildah])])
def test_every_builder_makes_the_same_image_of_the_file(docker_engine, tmp_path, report, arch, builders):
    """With a toolchain that takes no time."""
    engine.stub_image()
    made = []
    for builder in builders:
        image = builder(arch, tmp_path)
        config = image["Config"]
        labels = {name: text for name, text in config["Labels"].items() if not name.startswith("io.buildah")}
        assert len(labels) == 6 and image["Architecture"] == arch, image
        names = ("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "StopSignal", "Healthcheck")
        made.append({**{name: config[name] for name in names}, "Labels": labels})
    assert all(one == made[0] for one in made), made
    report(f"{arch}: the same image of the same file by {' and '.join(one.__name__ for one in builders)}")


@pytest.mark.skipif("GOSSIPYKV_CROSS_DEBIAN" not in os.environ, reason="no cross compiler given")
def test_arm64_from_the_same_file(docker_engine, tmp_path, report):
    """GOSSIPYKV_CROSS_DEBIAN names a tar of a Debian with rustc and cargo of this version or later,
    libstd-rust-dev:arm64, gcc-aarch64-linux-gnu and libc6-dev-arm64-cross."""
    engine.cross_image(os.environ["GOSSIPYKV_CROSS_DEBIAN"])
    tag = f"{engine.NODE}-arm64"
    image = engine.build_by_buildkit("arm64", engine.CROSS, tag)
    assert image["Architecture"] == "arm64"
    assert image["Size"] < 15e6
    container = engine.docker("create", "--platform", "linux/arm64", tag)
    engine.docker("cp", f"{container}:/gossipykv", tmp_path / "gossipykv")
    engine.docker("rm", container)
    header = (tmp_path / "gossipykv").read_bytes()[:20]
    assert header[:4] == b"\x7fELF" and header[18:20] == b"\xb7\x00", "AArch64"
    shown = run("qemu-aarch64-static", tmp_path / "gossipykv", "version", check=True).stdout
    assert shown.startswith(f"gossipykv {engine.VERSION} "), shown
    report(f"image built for arm64 across: {image['Size'] / 1e6:.2f} MB, runs: {shown.strip()}")
