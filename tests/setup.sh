#!/bin/sh
# Installs the programs that the tests talk to: Go's memberlist, Serf, dnsmasq, curl, proxies,
# clients of Consul, a browser, clients made of the API's description, and what it takes to lose
# packets in a network namespace and to set the clock of a process. Does nothing when all are there.
# Where it cannot install it says so in one line and succeeds: the tests skip what they miss, and
# fail in CI.
set -eu

packages="apache2-bin caddy chromium curl dnsmasq-base fonts-dejavu-core golang-go
    golang-github-armon-consul-api-dev golang-github-hashicorp-memberlist-dev golang-github-xordataexchange-crypt haproxy
    iproute2 libfaketime nftables nginx-light nodejs python3-venv serf"

# What does not come from Debian, where cargo keeps what is made. Consul's clients for Python have
# one name, and so a place of its own each.
clients=target/clients
client() {
    name=$1
    shift
    [ -e "$clients/$name/installed" ] && return
    rm -rf "${clients:?}/$name"
    if python3 -m venv "$clients/$name" >/dev/null 2>&1 \
        && "$clients/$name/bin/pip" install -q --disable-pip-version-check "$@" >/dev/null 2>&1; then
        touch "$clients/$name/installed"
    else
        echo "tests/setup.sh: pip failed, so these stay missing: $*" >&2
    fi
}
install_clients() {
    mkdir -p "$clients"
    client py-consul py-consul==1.8.0 launchdarkly-server-sdk==9.20.0
    client python-consul python-consul==1.1.0
    client python-consul2 python-consul2==0.1.5
    client ansible ansible==11.13.0 py-consul==1.8.0
    client openfeature openfeature-sdk==0.10.0 openfeature-provider-ofrep==0.3.0
    client browser playwright==1.65.2
    client api schemathesis==4.32.5 h11==0.16.0 openapi-python-client==0.29.1
    scripts npm consul consul@2.0.1
    scripts npm-page openapi-fetch axe-core@4.14.1 openapi-typescript@7.13.0 typescript@5.9.3 \
        openapi-fetch@0.17.0
}
scripts() {
    name=$1
    last=$2
    shift 2
    [ -e "$clients/$name/node_modules/$last" ] && return
    mkdir -p "$clients/$name"
    npm install --silent --no-audit --no-fund --prefix "$clients/$name" "$@" >/dev/null 2>&1 \
        || echo "tests/setup.sh: npm failed, so these stay missing: $*" >&2
}
trap 'cd "$(dirname "$0")/.." && install_clients' EXIT

missing=""
for package in $packages; do
    status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo -n"
    if ! $as_root true 2>/dev/null; then
        echo "tests/setup.sh: not root, so these stay missing:$missing" >&2
        exit 0
    fi
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "tests/setup.sh: no apt-get here, so these stay missing:$missing" >&2
    exit 0
fi

log=$(mktemp)
trap 'rm -f "$log"; cd "$(dirname "$0")/.." && install_clients' EXIT
install() {
    # Without --no-install-recommends serf and dnsmasq would bring services along.
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends $missing >"$log" 2>&1
}
if install || { $as_root apt-get update -qq >"$log" 2>&1 && install; }; then
    exit 0
fi
tail -n 5 "$log" >&2
echo "tests/setup.sh: apt-get failed, so these stay missing:$missing" >&2
exit 0
