#!/bin/sh
# image.sh build        builds the image $IMAGE for $ARCH
# image.sh push         makes the ECR repository when it is absent, and pushes $IMAGE to it
# image.sh uri          prints what `push` pushes to
# image.sh tag          prints $TAG
#
#   ENGINE       docker, podman or buildah                [the first that is there]
#   ARCH         amd64 or arm64                           [of CpuArchitecture in the parameters]
#   TAG          [the commit; of a changed tree with the time]
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
    [ -z "${ARCH:-}" ] || return 0
    case $(sed -n 's/^CpuArchitecture=//p' "$PARAMETERS/service.params") in
    X86_64) ARCH=amd64 ;;
    *) ARCH=arm64 ;;
    esac
}

find_tag() {
    HASH=$(git -C "$ROOT" rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
    DATE=$(TZ=UTC git -C "$ROOT" log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null || echo unknown)
    [ -z "${TAG:-}" ] || return 0
    TAG=$HASH
    # The tags of the repository are final, and a changed tree is another image each time.
    [ -z "$(git -C "$ROOT" status --porcelain 2>/dev/null)" ] || TAG=$HASH-$(date -u +%Y%m%d%H%M%S)
}

find_registry() {
    [ -z "${REGISTRY:-}" ] || return 0
    need_aws
    region=${AWS_DEFAULT_REGION:-$(aws configure get region)}
    REGISTRY=$ACCOUNT.dkr.ecr.$region.amazonaws.com
    ECR=yes
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
    find_arch
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

push() {
    need_engine
    find_registry
    if [ -n "${ECR:-}" ]; then
        if ! call ecr describe-repositories --repository-names "$REPOSITORY" >/dev/null; then
            case $(reason) in *RepositoryNotFound*) ;; *) fail "$(reason)" ;; esac
            call ecr create-repository --repository-name "$REPOSITORY" --image-tag-mutability IMMUTABLE \
                --image-scanning-configuration scanOnPush=true >/dev/null || fail "$(reason)"
            call ecr put-lifecycle-policy --repository-name "$REPOSITORY" --lifecycle-policy-text \
                '{"rules":[{"rulePriority":1,"description":"the last thirty","selection":{"tagStatus":"any","countType":"imageCountMoreThan","countNumber":30},"action":{"type":"expire"}}]}' \
                >/dev/null || fail "$(reason)"
            say "made repository $REPOSITORY"
        fi
        call ecr get-login-password | "$ENGINE" login --username AWS --password-stdin "$REGISTRY" >/dev/null ||
            fail "$ENGINE cannot log in to $REGISTRY"
    fi
    "$ENGINE" tag "$IMAGE" "$REGISTRY/$REPOSITORY:$TAG"
    "$ENGINE" push "$REGISTRY/$REPOSITORY:$TAG"
    say "pushed $REGISTRY/$REPOSITORY:$TAG"
}

find_tag
IMAGE=${IMAGE:-gossipykv:$TAG}
case ${1:-} in
build) build ;;
push) push ;;
uri)
    find_registry
    say "$REGISTRY/$REPOSITORY:$TAG"
    ;;
tag) say "$TAG" ;;
*) missing "usage: image.sh build|push|uri|tag" ;;
esac
