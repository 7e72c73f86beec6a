#!/bin/sh
# What .github/workflows/release.yml does by itself, so that it can be tried without a tag.
#
#   release.sh check TAG             whether TAG is that of this version, which all files tell alike, and the
#                                    changelog tells of it with a date
#   release.sh notes                 this version's part of the changelog
#   release.sh pack PROGRAM ARCH DIR a tarball of PROGRAM, built for ARCH (amd64 or arm64), in DIR
#   release.sh sums DIR              DIR/SHA256SUMS over all else in DIR
#
# The same sources and the same PROGRAM make the same bytes: what is packed has the commit's date
# (SOURCE_DATE_EPOCH), and no owner.
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
ROOT=${RELEASE_ROOT:-$ROOT}

fail() { printf '%s\n' "$*" >&2; exit 1; }
missing() { printf '%s\n' "$*" >&2; exit 2; }

VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml" | head -n 1)

# The part of the changelog under `## VERSION`, blank lines at its ends aside.
notes() {
    awk -v version="$VERSION" '
        /^## / { inside = $2 == version; next }
        inside && (/[^[:space:]]/ || lines) { text = text blank $0 "\n"; lines = 1; blank = "" }
        END { sub(/\n+$/, "\n", text); printf "%s", text }' "$ROOT/CHANGELOG.md"
}

# agrees FILE VERSION: that FILE tells.
agrees() { [ "$2" = "$VERSION" ] || fail "$1 has version $2, Cargo.toml $VERSION"; }

check() {
    [ "$1" = "v$VERSION" ] || fail "tag $1 is not that of version $VERSION in Cargo.toml"
    for lock in Cargo.lock fuzz/Cargo.lock; do
        agrees "$lock" "$(awk '/^name = "gossipykv"$/ { getline; gsub(/^version = "|"$/, ""); print; exit }' "$ROOT/$lock")"
    done
    chart=deploy/helm/gossipykv/Chart.yaml
    agrees "$chart (version)" "$(sed -n 's/^version: //p' "$ROOT/$chart")"
    agrees "$chart (appVersion)" "$(sed -n 's/^appVersion: //p' "$ROOT/$chart")"
    manifest=deploy/kubernetes/statefulset.yaml
    agrees "$manifest" "$(sed -n 's/^ *image: gossipykv://p' "$ROOT/$manifest")"
    api=src/http/routes/openapi.json
    agrees "$api" "$(sed -n 's/^ *"version": "\(.*\)",$/\1/p' "$ROOT/$api" | head -n 1)"
    grep -q "^## $VERSION\( \|\$\)" "$ROOT/CHANGELOG.md" || fail "CHANGELOG.md has no part \"## $VERSION\""
    grep -q "^## $VERSION ([0-9]\{4\}-[0-9]\{2\}-[0-9]\{2\})\$" "$ROOT/CHANGELOG.md" ||
        fail "CHANGELOG.md gives $VERSION no date: \"## $VERSION (YYYY-MM-DD)\""
    ! grep -q '^## Unreleased' "$ROOT/CHANGELOG.md" ||
        fail "CHANGELOG.md has a part \"## Unreleased\": with this tag all of it is released"
    [ -n "$(notes)" ] || fail "CHANGELOG.md says nothing of $VERSION"
    printf '%s\n' "$VERSION"
}

pack() {
    program=$1 arch=$2 out=$3
    case $arch in amd64 | arm64) ;; *) missing "ARCH is amd64 or arm64, not $arch" ;; esac
    [ -x "$program" ] || missing "$program is no program"
    date=${SOURCE_DATE_EPOCH:-$(git -C "$ROOT" log -1 --format=%ct)}
    name=gossipykv-$VERSION-linux-$arch
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/$name" "$out"
    cp "$program" "$work/$name/gossipykv"
    cp "$ROOT/README.md" "$ROOT/CHANGELOG.md" "$ROOT/LICENSE-APACHE" "$ROOT/LICENSE-MIT" \
        "$ROOT/deploy/systemd/gossipykv.service" "$work/$name/"
    chmod 755 "$work/$name" "$work/$name/gossipykv"
    chmod 644 "$work/$name"/*.md "$work/$name"/LICENSE-* "$work/$name/gossipykv.service"
    # In two steps: a pipe would hide that the first has failed.
    tar -C "$work" --format=gnu --sort=name --mtime="@$date" --owner=0 --group=0 --numeric-owner \
        -cf "$work/tar" "$name"
    gzip -n -9 <"$work/tar" >"$out/$name.tar.gz"
    printf '%s\n' "$out/$name.tar.gz"
}

sums() {
    cd "$1"
    rm -f SHA256SUMS
    set -- *
    [ -f "$1" ] || fail "there is nothing to sum up"
    LC_ALL=C sha256sum -- "$@" >SHA256SUMS.new
    mv SHA256SUMS.new SHA256SUMS
}

case ${1:-}/$# in
check/2) check "$2" ;;
notes/1) notes ;;
pack/4) pack "$2" "$3" "$4" ;;
sums/2) sums "$2" ;;
*) missing "usage: release.sh check TAG | notes | pack PROGRAM ARCH DIR | sums DIR" ;;
esac
