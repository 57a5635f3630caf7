#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Checks one form of one model with Spin.
#
# usage: run.sh MODEL EXPECT [-DNAME[=VALUE]]...
#   MODEL   lease, guard, guard_spool, hold, relay, date or slot
#   EXPECT  holds      the promise holds in every state, and every state was seen: nothing truncated
#           breaks     there is a counter-example: an assertion is violated
#           truncated  a search that is cut off must be noticed (a test of this script)
#
# Prints states, transitions, depth, time. Exit status: 0 as expected, 1 not, 2 an error, 77 spin or gcc is missing.
# Works in the current directory, in model.NAME/, where pan.c and a counter-example stay: see README.md for how to replay it.
# MODEL_MEMORY_MB: limit, 4096. MODEL_DEPTH: search depth, 2000000.
# MODEL_OPTIMIZE: -O2, which takes four seconds to compile; -O0 for what is searched in less.
set -u -o pipefail

usage() {
    sed -n '5,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
[[ $# -ge 2 ]] || usage
model=$1 expect=$2
shift 2
source_dir=$(cd "$(dirname "$0")" && pwd) || exit 2
[[ -f $source_dir/$model.pml ]] || usage

for tool in spin gcc; do
    if ! command -v "$tool" >/dev/null; then
        echo "skipped: $tool is not installed"
        exit 77
    fi
done

optimize=${MODEL_OPTIMIZE:--O2} hash=22 depth=${MODEL_DEPTH:-2000000}
case $expect in
holds) ;;
breaks) optimize=-O0 hash=20 depth=${MODEL_DEPTH:-200000} ;; # found soon: the compiler would take longer
truncated) optimize=-O0 hash=20 depth=50 ;;
*) usage ;;
esac

name="$model.$expect$(printf '%s' "${@/#-D/.}" | tr -c 'A-Za-z0-9_.' '_')"
work=model.$name
rm -rf "$work"
mkdir -p "$work" && cd "$work" || exit 2
cp "$source_dir/$model.pml" .

if ! nice -n 15 spin -a "$@" "$model.pml" >spin.log 2>&1 || [[ ! -f pan.c ]]; then
    cat spin.log
    exit 2
fi
nice -n 15 gcc $optimize -DSAFETY -DMEMLIM="${MODEL_MEMORY_MB:-4096}" -w -o pan pan.c || exit 2
nice -n 15 ./pan -m"$depth" -w"$hash" >pan.log 2>&1
status=$?

number() { sed -n "s/$1/\1/p" pan.log | head -n 1; }
states=$(number '^ *\([0-9.e+]*\) states, stored$')
transitions=$(number '^ *\([0-9.e+]*\) transitions .*')
deepest=$(number '.*depth reached \([0-9]*\),.*')
errors=$(number '.*errors: \([0-9]*\)$')
seconds=$(number '.*elapsed time \([0-9.e+-]*\) seconds')
# A promise, not the model's own assertions.
violated=$(sed -n 's/^pan:1: \(assertion violated.*\(version\|answered\|db\).*\)/\1/p' pan.log)
printf '%s %s: %s states, %s transitions, depth %s, %s s\n' \
    "$model" "${*:-(as it is)}" "$states" "$transitions" "$deepest" "$seconds"

whole() {
    [[ $status -eq 0 && $errors == 0 && -n $states ]] &&
        ! grep -qE 'Search not completed|search depth too small|MEMLIM|out of memory|Bit statespace|aborted' pan.log
}

case $expect in
holds)
    if whole; then
        echo "holds: no error, every state seen"
        exit 0
    fi
    echo "FAILED: the promise is broken, or not every state was seen:"
    tail -n 30 pan.log
    ;;
breaks)
    if [[ -n $violated ]]; then
        echo "breaks: $violated"
        exit 0
    fi
    echo "FAILED: no counter-example: the rule is not needed, or the model does not see what it is for"
    tail -n 30 pan.log
    ;;
truncated)
    if ! whole && [[ $errors == 0 ]]; then
        echo "noticed: the search was cut off at depth $depth"
        exit 0
    fi
    echo "FAILED: a truncated search counts as whole"
    ;;
esac
exit 1
