# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Running ctest. Sourced by scripts/test and scripts/lib/test-arm64.

# tests_skipped JUNIT-FILE: a line for each test that was skipped, as a whole or a case of it, with the reason that it gave.
tests_skipped() {
    /usr/bin/python3 - "$1" <<'PYTHON'
import re
import sys
import xml.etree.ElementTree

for test in xml.etree.ElementTree.parse(sys.argv[1]).getroot().iter("testcase"):
    said = test.findtext("system-out") or ""
    reasons = re.findall(r"(?m)^skipped[:,] *(.+)", said)
    if test.get("status") == "notrun":
        print(f"{test.get('name')}: {reasons[-1] if reasons else 'gives no reason'}")
        continue
    for case, reason in re.findall(r"(?m)^(\w+) \([\w.]+\)(?:\n.*)? \.\.\. skipped ['\"](.*)['\"]$", said):
        print(f"{test.get('name')}, {case}: {reason}")
    for case in dict.fromkeys(re.findall(r"(?m)^\[  SKIPPED \] (\w+)$", said)):
        print(f"{test.get('name')}, {case}: {reasons[-1] if reasons else 'gives no reason'}")
PYTHON
}

# Passes ctest's output on, with the ten slowest tests and those that were skipped in front of its closing lines.
# usage: with_slowest JUNIT-FILE
with_slowest() {
    local line times='' closing='' skipped=''
    while IFS= read -r line; do
        if [[ $line =~ Test\ +#[0-9]+:\ ([^ ]+)\ .*\ ([0-9.]+)\ sec ]]; then
            times+="${BASH_REMATCH[2]} s ${BASH_REMATCH[1]}"$'\n'
        fi
        if [[ -n $closing || $line =~ ^[0-9]+%\ tests\ passed ]]; then
            closing+=$line$'\n'
        else
            printf '%s\n' "$line"
        fi
    done
    printf 'The slowest:\n%s\n\n' "$(sort -rn <<<"$times" | sed -n 1,10p)"
    [[ ! -f $1 ]] || skipped=$(tests_skipped "$1")
    [[ -z $skipped ]] || printf 'Skipped:\n%s\n\n' "$skipped"
    printf '%s' "$closing"
}

# run_tests PRESET [CTEST-OPTION...], $jobs at once if that is set.
# Most system tests wait, for leases and restarts: four for each CPU. A test that computes counts as four
# (tests/CMakeLists.txt).
run_tests() {
    local preset=$1 junit=$PWD/build/$1/tests.xml
    shift
    echo "== testing: $preset"
    rm -f "$junit"
    ctest --test-dir "build/$preset" --output-on-failure --no-tests=error --output-junit "$junit" --test-output-size-passed 1000000 \
        --parallel "${jobs:-$((4 * $(nproc)))}" "$@" | with_slowest "$junit"
}
