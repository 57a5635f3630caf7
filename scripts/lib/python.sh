# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Virtual environments with what Debian does not have: newer Django and newer drivers, from PyPI. Each is a list in
# tests/python, is made once in build/python, and again where the list or its Python changed.
# Sourced from the top of the tree, after scripts/lib/packages.sh.

# To make environments; besides these, for a Python that is newer than this Debian's.
PACKAGES_PYTHON_ENV=(python3-venv debian-archive-keyring)

# python_new_enough PROGRAM VERSION
python_new_enough() {
    [[ -x $1 ]] && "$1" -c 'import sys; sys.exit(sys.version_info < tuple(map(int, sys.argv[1].split("."))))' "$2"
}

# python_fetch_trixie FOLDER: unpacks Debian 13's Python there, and what it needs, from the mirror of this machine's apt.
python_fetch_trixie() {
    local root=$1 mirror package
    local -a apt=(apt-get -q -y -o "Dir::State=$root/apt" -o "Dir::State::Lists=$root/apt/lists" -o "Dir::State::status=$root/apt/status"
        -o "Dir::Cache=$root/apt" -o "Dir::Etc::SourceList=$root/apt/sources.list" -o "Dir::Etc::SourceParts=$root/apt/parts"
        -o APT::Sandbox::User=)
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v -- -security | head -n 1)
    mkdir -p "$root"/apt/{lists/partial,archives/partial,parts} && : >"$root/apt/status" || return 1
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$root/apt/sources.list"
    "${apt[@]}" update && "${apt[@]}" --no-install-recommends --download-only install python3.13 python3.13-venv || return 1
    for package in "$root"/apt/archives/*.deb; do
        dpkg-deb -x "$package" "$root" || return 1
    done
    rm -rf "$root/apt"
}

# python_of_trixie: prints the path of Debian 13's Python 3.13 in build/python/trixie, which runs on an older Debian with its own
# libraries. Nothing of it is installed.
python_of_trixie() {
    local root=$PWD/build/python/trixie libraries loader
    local program=$root/usr/bin/python3.13
    if [[ ! -e $root/whole ]]; then
        rm -rf "$root"
        python_fetch_trixie "$root" >&2 || return 1
        libraries=$root/usr/lib/$(gcc -print-multiarch)
        loader=$(echo "$libraries"/ld-linux-*.so.*)
        mv "$program" "$root/python3.13" || return 1
        printf '#!/bin/sh\nexec "%s" --argv0 "$0" --library-path "%s" "%s" "$@"\n' "$loader" "$libraries" "$root/python3.13" >"$program"
        chmod 755 "$program"
        sed -i "s|/usr/share/python-wheels|$root&|" "$root"/usr/lib/python3.13/{ensurepip/__init__,_sysconfigdata_*}.py
        python_new_enough "$program" 3.13 || return 1
        touch "$root/whole"
    fi
    echo "$program"
}

# python_for VERSION: prints the path of a Python that is at least this one.
python_for() {
    local program
    for program in /usr/bin/python3 /usr/bin/python3.1{2..9}; do
        if python_new_enough "$program" "$1"; then
            echo "$program"
            return
        fi
    done
    python_of_trixie
}

# python_env_ensure NAME: makes build/python/NAME of tests/python/NAME.txt where it is missing or another one.
python_env_ensure() {
    local list=tests/python/$1.txt folder=build/python/$1 python wanted log
    python=$(python_for "$(sed -n 's/^#.*python >= \([0-9.]*\).*/\1/p' "$list")") || return 1
    wanted=$("$python" -VV && cat "$list")
    [[ $(cat "$folder/made-of" 2>/dev/null) == "$wanted" ]] && return
    echo "Making: $folder"
    rm -rf "$folder"
    log=$(mktemp)
    if ! { "$python" -m venv "$folder" && "$folder/bin/python" -m pip install --disable-pip-version-check -r "$list"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "pip failed (whole output: $log). What wants $folder is skipped" >&2
        return 1
    fi
    rm -f "$log"
    printf '%s' "$wanted" >"$folder/made-of"
}
