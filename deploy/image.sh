#!/bin/sh
# image.sh build        builds the image $IMAGE for $ARCH
# image.sh ensure       sees to it that the registry has an image of these sources: looks it up,
#                       else builds and pushes it; prints its name, with its digest where ECR has it
# image.sh tag          prints $TAG
#
#   ENGINE       docker, podman or buildah                [the first that is there]
#   ARCH         amd64 or arm64                           [of CpuArchitecture in the parameters]
#   TAG          [a hash of what goes into the image, and $ARCH]
#   REPOSITORY   name of the ECR repository               [gossipykv]
#   REGISTRY     another registry than the account's ECR, logged in by yourself
#   RUST_IMAGE   base image of the build, see Dockerfile
. "$(dirname -- "$0")/lib.sh"
REPOSITORY=${REPOSITORY:-gossipykv}

need_engine() {
    if [ -z "${ENGINE:-}" ]; then
        for ENGINE in docker podman buildah ''; do
            [ -z "$ENGINE" ] || ! command -v "$ENGINE" >/dev/null || break
        done
    fi
    [ -n "$ENGINE" ] || missing "no container engine: install docker, podman or buildah"
    command -v "$ENGINE" >/dev/null || missing "$ENGINE is missing (ENGINE=$ENGINE)"
    "$ENGINE" info >/dev/null 2>"$WORK/error" || missing "$ENGINE does not work: $(reason)"
}

# What the tasks will run on decides what is built.
find_arch() {
    case ${ARCH:=} in
    amd64 | arm64) return ;;
    '') ;;
    *) missing "ARCH is amd64 or arm64, not $ARCH" ;;
    esac
    case $(sed -n 's/^CpuArchitecture=//p' "$PARAMETERS/service.params") in
    X86_64) ARCH=amd64 ;;
    *) ARCH=arm64 ;;
    esac
}

sha256() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

# The same sources are the same image, whatever commit they are in; each machine has its own.
find_tag() {
    find_arch
    HASH=$(git -C "$ROOT" rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
    DATE=$(TZ=UTC git -C "$ROOT" log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null || echo unknown)
    [ -z "${TAG:-}" ] || return 0
    cd "$ROOT"
    find Dockerfile .dockerignore Cargo.toml Cargo.lock build.rs src -type f | LC_ALL=C sort >"$WORK/files"
    while read -r file; do sha256 "$file"; done <"$WORK/files" >"$WORK/sums"
    echo "RUST_IMAGE=${RUST_IMAGE:-}" >>"$WORK/sums"
    TAG=src-$(sha256 <"$WORK/sums" | cut -c 1-16)-$ARCH
}

# Docker's plain builder knows no other machine than its own; BuildKit does.
find_builder() {
    case $ENGINE in *docker) ;; *) return ;; esac
    if [ -z "${DOCKER_BUILDKIT:-}" ] && DOCKER_BUILDKIT=1 "$ENGINE" build --help >/dev/null 2>&1; then
        DOCKER_BUILDKIT=1
    fi
    export DOCKER_BUILDKIT="${DOCKER_BUILDKIT:-0}"
    [ "$DOCKER_BUILDKIT" != 0 ] || [ "$ARCH" = "$1" ] ||
        missing "docker needs BuildKit to build for $ARCH here: install docker-buildx, or ENGINE=buildah, or ARCH=$1"
}

build() {
    need_engine
    case $(uname -m) in aarch64 | arm64) here=arm64 ;; *) here=amd64 ;; esac
    find_builder "$here"
    # BuildKit knows both machines by itself; the others are told.
    set -- --build-arg "TARGETARCH=$ARCH" --build-arg "BUILDPLATFORM=linux/$here" --build-arg "BUILD_HASH=$HASH" \
        --build-arg "BUILD_DATE=$DATE" --build-arg "VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml" | head -n 1)"
    [ "${DOCKER_BUILDKIT:-}" = 0 ] || set -- --platform "linux/$ARCH" "$@"
    # The others' own format has no health check.
    case $ENGINE in *docker) ;; *) set -- "$@" --format docker ;; esac
    [ -z "${RUST_IMAGE:-}" ] || set -- "$@" --build-arg "RUST_IMAGE=$RUST_IMAGE"
    "$ENGINE" build "$@" --tag "$IMAGE" "$ROOT"
    say "built $IMAGE for $ARCH"
}

# Pushes $IMAGE as $1.
push() {
    "$ENGINE" tag "$IMAGE" "$1"
    "$ENGINE" push "$1"
    say "pushed $1"
}

# What ECR removes by itself: images that no tag names, never one that may run. The children of an
# image with several parts have no tag either, but ECR keeps them as long as the image.
LIFECYCLE='{"rules":[{"rulePriority":1,"description":"untagged for two weeks","selection":{"tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days","countNumber":14},"action":{"type":"expire"}}]}'

# Makes the repository where it is absent, and sets URI to its address.
find_repository() {
    if ! URI=$(call ecr describe-repositories --repository-names "$REPOSITORY" --query 'repositories[0].repositoryUri' --output text); then
        case $(reason) in *RepositoryNotFound*) ;; *) fail "$(reason)" ;; esac
        URI=$(call ecr create-repository --repository-name "$REPOSITORY" --image-tag-mutability IMMUTABLE \
            --image-scanning-configuration scanOnPush=true --query repository.repositoryUri --output text) || fail "$(reason)"
        say "made repository $REPOSITORY"
    fi
    policy=$(call ecr get-lifecycle-policy --repository-name "$REPOSITORY" --query lifecyclePolicyText --output text) || policy=
    # A policy of somebody else's stays; one that counts images of any kind was once made here.
    case $policy in
    '' | *'"the last thirty"'*)
        call ecr put-lifecycle-policy --repository-name "$REPOSITORY" --lifecycle-policy-text "$LIFECYCLE" >/dev/null ||
            fail "$(reason)"
        ;;
    esac
}

find_digest() {
    DIGEST=$(call ecr describe-images --repository-name "$REPOSITORY" --image-ids "imageTag=$TAG" \
        --query 'imageDetails[0].imageDigest' --output text) && return
    case $(reason) in *ImageNotFound*) DIGEST= ;; *) fail "$(reason)" ;; esac
}

# What it says is for people, and what it prints for scripts.
ensure() {
    if [ -n "${REGISTRY:-}" ]; then
        { build && push "$REGISTRY/$REPOSITORY:$TAG"; } >&2
        say "$REGISTRY/$REPOSITORY:$TAG"
        return
    fi
    need_aws
    find_repository >&2
    find_digest
    if [ -n "$DIGEST" ]; then
        say "$URI:$TAG is there: nothing to build" >&2
    else
        build >&2
        call ecr get-login-password | "$ENGINE" login --username AWS --password-stdin "${URI%%/*}" >/dev/null ||
            fail "$ENGINE cannot log in to ${URI%%/*}"
        push "$URI:$TAG" >&2
        find_digest
        [ -n "$DIGEST" ] || fail "$URI:$TAG is not there after it was pushed"
    fi
    say "$URI@$DIGEST"
}

find_tag
IMAGE=${IMAGE:-gossipykv:$TAG}
case ${1:-} in
build) build ;;
ensure) ensure ;;
tag) say "$TAG" ;;
*) missing "usage: image.sh build|ensure|tag" ;;
esac
