# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# PostgreSQL 13, the oldest that the relay works with, as Debian 11 has it: its packages unpacked in a folder, with the few libraries
# that newer releases of Debian lack. Nothing is installed. Sourced by scripts/test-on, after folder.sh.

# postgres13_make FOLDER: nothing where it is there already. It gets its name when it is whole.
postgres13_make() {
    local folder=$1 made=$1.making log=$1.log lists=$1.making/apt
    [[ ! -d $folder ]] || return 0
    echo "Making PostgreSQL 13 in $folder ..."
    rm -rf --one-file-system "$made"
    mkdir -p "$lists"/{state/lists,cache/archives}/partial
    : >"$lists/status"
    folder_sources bullseye >"$lists/sources.list"
    # Debian 11 gets no more updates some day: then its lists are as old as they are.
    local apt=(-o "Dir::Etc::SourceList=$lists/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State=$lists/state"
        -o "Dir::State::Status=$lists/status" -o "Dir::Cache=$lists/cache" -o APT::Sandbox::User=root -o Acquire::Check-Valid-Until=false)
    if ! { apt-get "${apt[@]}" -q update &&
        (cd "$lists/cache" && apt-get "${apt[@]}" -q download postgresql-13 postgresql-client-13 libssl1.1 libicu67 libldap-2.4-2) &&
        find "$lists/cache" -maxdepth 1 -name '*.deb' -exec dpkg-deb -x {} "$made" \;; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "apt-get failed (whole output: $log)" >&2
        return 1
    fi
    rm -rf "$lists"
    mv "$made" "$folder"
    rm -f "$log"
}

# postgres13_run FOLDER COMMAND...: with the tests' PostgreSQL being that one.
postgres13_run() {
    local folder=$1 libraries
    shift
    libraries=$(dirname "$(find "$folder/usr/lib" -name 'libssl.so.1.1' -print -quit)")
    if ! setpriv --reuid postgres --clear-groups "$folder/usr/lib/postgresql/13/bin/pg_ctl" --version >/dev/null; then
        echo "The user postgres, which servers run as, cannot use $folder: name another place with --cache" >&2
        return 1
    fi
    ETAGD_POSTGRES_BIN=$folder/usr/lib/postgresql/13/bin LD_LIBRARY_PATH=$libraries "$@"
}
