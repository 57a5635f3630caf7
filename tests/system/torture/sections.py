# SPDX-License-Identifier: Apache-2.0
"""How a section runs, and what campaigns add up over theirs."""
import sys


def add_up(into, what):
    for name, value in what.items():
        into[name] = into.get(name, 0) + value


class Sums:
    def __init__(self):
        self.counters, self.nemeses, self.slowest = {}, {}, {}
        self.failures, self.violations = [], []
        self.sections = 0

    def add(self, section, counted):
        """counted: what its histories and processes came to; those that begin with "longest" or "oldest" are the subclass'."""
        self.sections += 1
        add_up(self.counters, {name: value for name, value in counted.items() if not name.startswith(("longest", "oldest"))})
        add_up(self.nemeses, section.nemeses)
        for name, value in section.slowest.items():
            self.slowest[name] = max(value, self.slowest.get(name, 0))

    def violation_count(self):
        return sum(value for name, value in self.counters.items() if "violations" in name) + self.counters.get("records_wrong", 0)

    def nemesis_rows(self):
        return [(f"nemesis: {name}" + (f" (up to {self.slowest[name]} s)" if name in self.slowest else ""), value)
                for name, value in sorted(self.nemeses.items())]


def section_run(section, torment, result, keep, ends, said_most):
    """torment(): what is done to it. ends: exceptions by which only this section ends. said_most: other lines of the checker."""
    failed = True
    try:
        try:
            section.begin()
            torment()
            section.end()
        except ends as failure:
            section.failures.append(str(failure))
        counted, said = section.check()
        result.add(section, counted)
        violations = [line for line in said.splitlines() if line.startswith("violation")]
        result.violations += violations
        failed = bool(section.failures or violations)
        others = [line for line in said.splitlines() if not line.startswith("violation")]
        print("\n".join(violations[:20] + others[:said_most]), end="\n" if violations or others else "", file=sys.stderr)
    finally:
        section.close(keep and failed)
        result.failures += section.failures
        if keep and failed:
            print(f"kept: {section.directory}", file=sys.stderr)
