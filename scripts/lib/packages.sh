# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034
# The Debian packages that the scripts need, in one place, and the one function that installs what is missing.
# Sourced by the scripts. "a|b": where releases of Debian have
# different names for it, the first that apt knows.

# To configure and build everything: CMake configures the tests with the rest, so it wants what they need too (cmocka, libseccomp,
# and protobuf, with which nothing else is built).
PACKAGES_BUILD=(
    gcc libc6-dev cmake ninja-build pkg-config
    protobuf-compiler protobuf-c-compiler libprotobuf-c-dev
    liburing-dev liblmdb-dev libyaml-dev libjansson-dev libssl-dev
    libmicrohttpd-dev libpq-dev "libcurl4-openssl-dev|libcurl4-gnutls-dev" libsqlite3-dev libcmocka-dev libseccomp-dev python3
)
# Besides these: for scripts/demo; for scripts/test, its --full and scripts/fuzz; for scripts/lint, scripts/coverage,
# scripts/bench.
# The Python package and what shows it with Django.
PACKAGES_PYTHON=(
    python3-cffi python3-dev python3-build python3-setuptools python3-wheel
    python3-django python3-djangorestframework gunicorn python3-gevent uvicorn python3-psycopg2 postgresql
)
PACKAGES_DEMO=(curl)
# For the nginx module, which is left out without them: its tests want nginx itself too.
PACKAGES_NGINX=(nginx nginx-dev)
# For scripts/demo-hosts and the torture campaign on many hosts: network namespaces.
PACKAGES_HOSTS=(iproute2 postgresql python3-psycopg2 util-linux)
PACKAGES_TEST=(bash-completion curl e2fsprogs etcd-client etcd-server g++ git iproute2 man-db mandoc mount openssl prometheus python3-prometheus-client spin util-linux "${PACKAGES_NGINX[@]}" libnginx-mod-http-brotli-filter)
PACKAGES_TEST_FULL=(clang "libclang-rt-14-dev|libclang-rt-19-dev" valgrind)
PACKAGES_LINT=(clang-format clang-tidy shellcheck git nginx-dev)
PACKAGES_COVERAGE=(gcovr)
# For scripts/package; scripts/test-packages.
PACKAGES_PACKAGE=(dpkg-dev fakeroot file lintian gzip)
PACKAGES_TEST_PACKAGES=(debootstrap systemd systemd-container util-linux)
# For scripts/test-on; in its folder for arm64.
PACKAGES_TEST_ON=(debootstrap git mount util-linux)
PACKAGES_ARM64=(
    gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross cmake ninja-build pkg-config protobuf-compiler protobuf-c-compiler python3 qemu-user
    libc6-dev:arm64 libprotobuf-c-dev:arm64 liburing-dev:arm64 liblmdb-dev:arm64 libyaml-dev:arm64 libjansson-dev:arm64
    libssl-dev:arm64 libmicrohttpd-dev:arm64 libpq-dev:arm64 libcurl4-openssl-dev:arm64 libsqlite3-dev:arm64 libcmocka-dev:arm64 libseccomp-dev:arm64
)
PACKAGES_BENCH=(redis-server redis-tools libhiredis-dev memcached libmemcached-dev libck-dev python3-matplotlib)
PACKAGES_BENCH_NGINX=(wrk varnish valgrind)
PACKAGES_BENCH_DJANGO=(wrk python3-redis valgrind)

# True if the package is installed.
packages_has() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# packages_install NAME...: starts none of the services that the packages bring (nginx, PostgreSQL, Redis, ...): scripts run
# servers of their own, and leave none. Uses become, of packages_ensure.
packages_install() {
    local policy=/usr/sbin/policy-rc.d ours=no status=0
    if [[ ! -e $policy ]]; then
        ours=yes
        # shellcheck disable=SC2016
        "${become[@]}" sh -c 'printf "#!/bin/sh\nexit 101\n" >"$1" && chmod 755 "$1"' sh "$policy"
    fi
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@" || status=$?
    [[ $ours == no ]] || "${become[@]}" rm -f "$policy"
    return "$status"
}

# True if one of the alternatives is.
packages_has_one() {
    local name
    for name in ${1//|/ }; do
        ! packages_has "$name" || return 0
    done
    return 1
}

# Prints the first of the alternatives that can be installed; the first of all where apt knows none, for its message.
packages_choose() {
    local name
    for name in ${1//|/ }; do
        if [[ -n $(apt-cache --no-all-versions show "$name" 2>/dev/null) ]]; then
            echo "$name"
            return
        fi
    done
    echo "${1%%|*}"
}

# packages_ensure NAME...: installs those that are missing, as root or with sudo; says what. Silent if there is
# nothing to do. Fails with what to run by hand if it can't.
packages_ensure() {
    local -a missing=() become=() chosen=()
    local name log
    if ! command -v dpkg-query >/dev/null; then
        echo "Not a Debian system: please install what these packages hold: $*" >&2
        return 1
    fi
    for name in "$@"; do
        packages_has_one "$name" || missing+=("$name")
    done
    [[ ${#missing[@]} -eq 0 ]] && return 0
    if [[ $(id -u) -ne 0 ]]; then
        if ! command -v sudo >/dev/null; then
            echo "Missing packages. As root: apt-get install ${missing[*]}" >&2
            return 1
        fi
        become=(sudo)
    fi
    echo "Installing: ${missing[*]}"
    log=$(mktemp)
    # What can be installed is known once the lists are there.
    if ! { "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q update &&
        mapfile -t chosen < <(for name in "${missing[@]}"; do packages_choose "$name"; done) &&
        packages_install "${chosen[@]}"; } </dev/null >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "apt-get failed (whole output: $log). By hand: apt-get install ${chosen[*]:-${missing[*]}}" >&2
        return 1
    fi
    rm -f "$log"
}
