"""One image for one state of the sources: found again, never pushed twice, and deployed by digest.

The engine is played; login, repository, tags and digests are the real CLI's and moto's.
"""

import json
import re
import shutil

import pytest
from cloudformation_double import Stack
from conftest import ROOT, run, tool
from making import make, value_of

REGISTRY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
# What it pushes is told apart by its name, as a real image is by its layers.
ENGINE = """#!/bin/sh
echo "$@" >>{log}
case $1 in
login) cat >/dev/null ;;
push)
    tag=${{2##*:}}
    case $2 in *amazonaws*) ;; *) exit ;; esac
    layer=$(printf %s "$tag" | sha256sum | cut -c 1-64)
    aws ecr put-image --repository-name gossipykv --image-tag "$tag" --image-manifest \\
        "{{\\"schemaVersion\\":2,\\"mediaType\\":\\"application/vnd.docker.distribution.manifest.v2+json\\",\\"config\\":{{\\"mediaType\\":\\"application/vnd.docker.container.image.v1+json\\",\\"size\\":1,\\"digest\\":\\"sha256:$layer\\"}},\\"layers\\":[]}}"
    ;;
esac
"""


@pytest.fixture
def engine(aws, tmp_path):
    """The environment of a make with that engine, and what the engine was asked to do."""
    log, program = tmp_path / "engine.log", tmp_path / "docker"
    log.write_text("")
    program.write_text(ENGINE.format(log=log))
    program.chmod(0o755)

    def asked(what):
        return [call for call in log.read_text().splitlines() if call.startswith(f"{what} ")]

    return aws | {"ENGINE": str(program), "IMAGE_URI": None}, asked


def copy_of_sources(folder):
    """A tree without its history, whose files a test may change."""
    for name in ("Makefile", "Dockerfile", ".dockerignore", "Cargo.toml", "Cargo.lock", "build.rs"):
        shutil.copy2(ROOT / name, folder)
    for name in ("src", "deploy", "cloudformation"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def tag(folder, **env):
    return run(folder / "deploy/image.sh", "tag", env=env, check=True).stdout.strip()


def test_the_tag_is_what_goes_into_the_image(tmp_path, report):
    one = copy_of_sources(tmp_path)
    before = tag(one, ARCH="arm64")
    assert re.fullmatch(r"src-[0-9a-f]{16}-arm64", before)
    assert tag(ROOT, ARCH="arm64") == before, "neither the commit nor the place counts"
    assert tag(one, ARCH="amd64") != before and tag(one, ARCH="amd64").endswith("-amd64")
    assert tag(one, ARCH="arm64", RUST_IMAGE="mine") != before
    (one / "cloudformation/service.yaml").write_text("")
    (one / "README.md").write_text("")
    assert tag(one, ARCH="arm64") == before
    for name in ("Dockerfile", ".dockerignore", "Cargo.toml", "Cargo.lock", "build.rs", "src/main.rs"):
        path = one / name
        text = path.read_bytes()
        path.write_bytes(text + b"\n")
        assert tag(one, ARCH="arm64") != before, name
        path.write_bytes(text)
    (one / "src/new.rs").write_text("")
    assert tag(one, ARCH="arm64") != before
    # Everything that the Dockerfile copies is in the hash.
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.M)
    hashed = re.search(r"^    find (.*) -type f", (ROOT / "deploy/image.sh").read_text(), re.M).group(1).split()
    assert copied and set(" ".join(copied).split()) <= set(hashed)
    report("image tag: changes with every file that goes into the image, and with nothing else")


def test_the_same_sources_are_built_and_pushed_once(engine, report):
    env, asked = engine
    for _ in range(2):
        shown = make("push", env)
        assert shown.returncode == 0, shown.stdout
    assert "is there: nothing to build" in shown.stdout
    assert asked("login") == [f"login --username AWS --password-stdin {REGISTRY}"]
    (pushed,) = asked("push")
    assert re.fullmatch(rf"push {REGISTRY}/gossipykv:src-[0-9a-f]{{16}}-arm64", pushed)
    (build,) = [call for call in asked("build") if "--tag" in call]
    assert "linux/arm64" in build and "TARGETARCH=arm64" in build
    made = run(
        tool("aws"), "ecr", "describe-repositories", "--output", "text", "--query",
        "repositories[].[repositoryName, imageTagMutability]", env=env | {"IMAGE_URI": ""}, check=True,
    )  # fmt: skip
    assert made.stdout.split() == ["gossipykv", "IMMUTABLE"]
    report("make push twice: one build, one push, the second finds it")


def policy(env):
    shown = run(tool("aws"), "ecr", "get-lifecycle-policy", "--repository-name", "gossipykv", "--output", "text",
                "--query", "lifecyclePolicyText", env=env | {"IMAGE_URI": ""}, check=True)  # fmt: skip
    return json.loads(shown.stdout)


def test_an_image_with_a_tag_never_expires(engine, report):
    env, _ = engine
    assert make("push", env).returncode == 0
    assert {rule["selection"]["tagStatus"] for rule in policy(env)["rules"]} == {"untagged"}
    # One that was once made here, and counts what is running too, is replaced; another stays.
    old = {"rulePriority": 1, "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 30},
           "action": {"type": "expire"}}  # fmt: skip
    for description, status in (("the last thirty", "untagged"), ("somebody's own", "any")):
        run(tool("aws"), "ecr", "put-lifecycle-policy", "--repository-name", "gossipykv", "--lifecycle-policy-text",
            json.dumps({"rules": [old | {"description": description}]}), env=env | {"IMAGE_URI": ""}, check=True)  # fmt: skip
        assert make("push", env).returncode == 0
        assert [rule["selection"]["tagStatus"] for rule in policy(env)["rules"]] == [status], description
    report("the registry's lifecycle: only what no tag names expires")


def test_the_same_sources_are_deployed_once(engine, report):
    env, asked = engine
    shown = make("deploy", env)
    assert shown.returncode == 0, shown.stdout
    image = value_of(env | {"IMAGE_URI": ""}, "/kv/image")
    assert re.fullmatch(rf"{REGISTRY}/gossipykv@sha256:[0-9a-f]{{64}}", image), image
    shown = make("deploy", env)
    assert shown.returncode == 0 and shown.stdout.count("  no changes\n") == 2, shown.stdout
    assert len(asked("push")) == 1
    report("make deploy twice for one state of the sources: by digest, and the second time no change")


def test_another_registry_is_asked_for_nothing(engine):
    env, asked = engine
    shown = make("push", env, REGISTRY="registry.test")
    assert shown.returncode == 0, shown.stdout
    (pushed,) = [call for call in asked("push") if "registry.test" in call]
    assert pushed.startswith("push registry.test/gossipykv:src-") and asked("login") == []


def test_image_and_tasks_cannot_be_of_two_kinds(double, report):
    double.stacks = {"kv": Stack(parameters={"VpcId": "v", "PublicSubnetIds": "a", "PrivateSubnetIds": "b"})}
    env = double.environment
    shown = make("deploy", env, ARCH="amd64", IMAGE_URI=None)
    assert shown.returncode == 2 and "ARCH=amd64, but tasks of kv run on arm64" in shown.stdout, shown.stdout
    for said in ("CpuArchitecture=X86_64", None):
        wrong, right = ("arm64", "amd64") if said else ("amd64", "arm64")
        shown = make("deploy", env, SET=said, IMAGE_URI=f"{REGISTRY}/kv:src-0123456789abcdef-{wrong}")
        assert shown.returncode == 2 and f"but tasks of kv run on {right}" in shown.stdout, shown.stdout
    assert "CreateChangeSet" not in double.actions
    shown = make("deploy", env, SET="CpuArchitecture=X86_64", ARCH="amd64", IMAGE_URI=f"{REGISTRY}/kv:src-0-amd64")
    assert shown.returncode == 0, shown.stdout
    (made,) = double.change_sets
    assert made["parameters"]["CpuArchitecture"] == "X86_64"
    # And tasks may pull from where the image is, whatever its repository is called.
    assert made["parameters"]["RepositoryArn"] == "arn:aws:ecr:eu-west-1:123456789012:repository/kv"
    report("make deploy of an image for another machine than the tasks': exit 2")
