# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A Debian in a folder: made by debootstrap, entered in namespaces of its own. Sourced by scripts/test-on.
folder_enter=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)/enter-folder

# folder_sources SUITE: lines for apt, of the places from which this machine's own apt gets its release, for another suite.
folder_sources() {
    local here
    # shellcheck source=/dev/null
    here=$(. /etc/os-release && echo "${VERSION_CODENAME:?}")
    # shellcheck disable=SC2016 # apt's own names
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        sed -nE "s/^([^ ]+) $here((-updates|-security)?) ([^ ]+)\$/deb \1 $1\2 \4/p" | sort -u
}

# folder_make FOLDER SUITE: nothing where it is there already. It gets its name when it is whole.
folder_make() {
    local folder=$1 suite=$2 sources mirror made=$1.making log=$1.log http_proxy=${http_proxy-} https_proxy=${https_proxy-}
    [[ ! -d $folder ]] || return 0
    sources=$(folder_sources "$suite")
    mirror=$(sed -nE "s/^deb ([^ ]+) $suite main\$/\1/p" <<<"$sources" | sed -n 1p)
    if [[ -z $mirror ]]; then
        echo "This machine's apt has no source of Debian's main: apt-get update, then look at apt-get indextargets" >&2
        return 1
    fi
    [[ -n $http_proxy ]] || http_proxy=$(apt-config shell proxy Acquire::http::Proxy | sed -n "s/^proxy='\(.*\)'\$/\1/p")
    [[ -n $https_proxy ]] || https_proxy=$(apt-config shell proxy Acquire::https::Proxy | sed -n "s/^proxy='\(.*\)'\$/\1/p")
    export http_proxy https_proxy
    echo "Making $suite in $folder ..."
    rm -rf --one-file-system "$made"
    # It mounts /proc in the folder: in namespaces that end with it.
    if ! unshare --mount --pid --fork --kill-child debootstrap --variant=minbase \
        --include=ca-certificates,systemd "$suite" "$made" "$mirror" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "debootstrap failed (whole output: $log)" >&2
        return 1
    fi
    printf '%s\n' "$sources" >"$made/etc/apt/sources.list"
    apt-config dump | grep -E '^Acquire::((http|https)::|Check-|Retries|ForceIP)' >"$made/etc/apt/apt.conf.d/90-as-outside" || true
    echo force-unsafe-io >"$made/etc/dpkg/dpkg.cfg.d/unsafe-io" # the folder can be made again
    mkdir -p "$made/src"
    mv "$made" "$folder"
    rm -f "$log"
}

# folder_copy_tree TREE PLACE: the files that git knows or would add, as they are now. What was built there stays.
folder_copy_tree() {
    local tree=$1 place=$2
    mkdir -p "$place"
    find "$place" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf --one-file-system {} +
    # Files that are deleted and not yet committed are not there to be copied.
    (cd "$tree" && git -c safe.directory="$tree" ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' name; do
            [[ ! -e $name && ! -L $name ]] || printf '%s\0' "$name"
        done | tar --create --null --no-recursion --files-from=- --owner=0 --group=0) | tar --extract --directory="$place" --same-owner
}

# folder_run [--user] FOLDER DIRECTORY COMMAND...: as root in the folder. Mounts and processes are its own: nothing stays mounted
# or running, also where this shell or anything else of it is killed. --user: also users and binfmt_misc.
folder_run() {
    local user=() name pid status=0
    [[ $1 != --user ]] || { user=(--user) && shift; }
    local folder=$1
    for name in resolv.conf hosts; do
        cp "/etc/$name" "$folder/etc/$name"
    done
    # The authorities that this machine trusts, since its proxies are used there too.
    [[ ! -d $folder/etc/ssl/certs ]] || cp /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/ca-certificates.crt"
    # A shell that is killed takes its child along (pdeathsig), that one the first process of the namespace (kill-child), and that
    # one all the others.
    setpriv --pdeathsig KILL "$folder_enter" ${user[@]+"${user[@]}"} "$@" &
    pid=$!
    # shellcheck disable=SC2064
    trap "kill -KILL $pid 2>/dev/null || true; exit 130" INT TERM
    wait "$pid" || status=$?
    trap - INT TERM
    return "$status"
}
