# SPDX-License-Identifier: Apache-2.0
"""The pages of etagd and etagctl, of what the programs say with `--help`: so an option or a command has its page by being in
its table. What `--help` has no room for is beside this file: NAME.text, in the text of troff.py with a heading in
capitals before each part; and options.text, with what each option of etagd is for.
"""
import re
import subprocess

from troff import Page, escape


def run(program, *args):
    return subprocess.run([program, *args, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout


def parts_of(text):
    """(heading, text) of a file whose headings are lines in capitals."""
    found = re.split(r"^([A-Z][A-Z ]+)\n", text, flags=re.MULTILINE)[1:]
    return list(zip(found[::2], found[1::2]))


def options_of(text):
    """Name to text of options.text."""
    found = re.split(r"^([a-z][a-z-]*):\n", text, flags=re.MULTILINE)[1:]
    return {name: re.sub(r"^  ", "", body, flags=re.MULTILINE) for name, body in zip(found[::2], found[1::2])}


# ---- etagctl ----

class Help:
    """What `etagctl [COMMAND] --help` says."""

    def __init__(self, text):
        self.usage, rest = re.fullmatch(r"Usage: (.*?)\n\n(.*)", text, re.DOTALL).groups()
        self.groups, details = [], []  # title and options of each group
        blocks = re.split(r"\n\n", rest.rstrip("\n"))
        self.exit_status = blocks.pop().removeprefix("Exit status: ")
        self.commands = []
        for block in blocks:
            title, *rows = block.strip("\n").split("\n")
            if title == "Commands:":
                self.commands = [row.split(None, 1) for row in rows]
            elif title.endswith(":") or (title.endswith(", with") or re.match(r"  --", rows[0] if rows else "")):
                self.groups.append((title.rstrip(":"), [option_row(row) for row in rows]))
            else:
                details.append(block)
        self.summary, self.details = details[0].rstrip("."), "\n\n".join(details[1:])

    def options(self):
        return [name for _, options in self.groups for name, _, _ in options]


def option_row(row):
    """Name, value or "", help of a row of print_options(): its left half is 24 wide, or longer with one blank after it."""
    found = re.fullmatch(r"  --([a-z-]+)((?: '[^']*'| [A-Z][A-Z_]*\b)?) +(\S.*)", row)
    if not found:
        raise SystemExit(f"etagctl --help has a row that docs/man/programs.py does not understand: {row!r}")
    return found.group(1), found.group(2).strip(), found.group(3)


def option_group(page, title, options):
    if title != "Options":
        page.rows.append(f'.SS "{escape(title)}"')
    for name, value, text in options:
        term = f"\\fB\\-\\-{escape(name)}\\fR" + (f" \\fI{escape(value)}\\fR" if value else "")
        page.term(term, text[0].upper() + text[1:] + ("" if text.endswith(".") else "."))


def tail(page, parts):
    for heading, text in parts:
        page.heading(heading)
        page.text(text)


def command_page(name, parsed, pages, global_names):
    page = Page(1, [f"etagctl-{name}"], parsed.summary[0].lower() + parsed.summary[1:], f"etagctl-{name}", pages)
    page.heading("SYNOPSIS")
    page.rows.append(f"\\fB{escape(parsed.usage)}\\fR")
    page.heading("DESCRIPTION")
    page.paragraph(parsed.summary + ".")
    page.text(re.sub(r"^(?=  )", "  ", parsed.details, flags=re.MULTILINE))
    own = [(title, options) for title, options in parsed.groups if [row[0] for row in options] != global_names]
    page.heading("OPTIONS")
    for title, options in own:
        option_group(page, title, options)
    page.rows.append('.SS "Global options"')
    page.paragraph("--socket, --timeout-ms, --json and the others: see etagctl(1).")
    page.heading("EXIT STATUS")
    page.paragraph(parsed.exit_status)
    page.see_also(["etagctl", "etagd", *(other for other in pages if other.startswith("etagctl-"))])
    return page


def etagctl_pages(etagctl, here, pages):
    whole = Help(run(etagctl))
    parsed = {name: Help(run(etagctl, name)) for name, _ in whole.commands}
    pages.update({"etagctl": 1} | {f"etagctl-{name}": 1 for name in parsed})
    global_names = whole.options()
    page = Page(1, ["etagctl"], whole.summary[0].lower() + whole.summary[1:], "etagctl", pages)
    page.heading("SYNOPSIS")
    page.rows.append(f"\\fB{escape(whole.usage)}\\fR")
    parts = dict(parts_of((here / "etagctl.text").read_text()))
    page.heading("DESCRIPTION")
    page.text(parts.pop("DESCRIPTION"))
    page.heading("COMMANDS")
    for name, summary in whole.commands:
        page.term(f"\\fBetagctl\\-{escape(name)}\\fR(1)", summary + ".")
    page.heading("OPTIONS")
    for title, options in whole.groups:
        option_group(page, title, options)
    page.heading("EXIT STATUS")
    page.paragraph(whole.exit_status)
    tail(page, parts.items())
    page.see_also(["etagd", "etagd.yaml", "etag"])
    return [page] + [command_page(name, help_text, pages, global_names) for name, help_text in parsed.items()]


# ---- etagd ----

def flags_of(help_text):
    """(name, value, text, default) of etagd's --help: argp puts text of a flag into several rows."""
    flags = []
    for row in help_text.split("\n"):
        found = re.match(r"  (?:-\S, |    )--([a-z-]+)(?:=([A-Z=]+))?(?: {2,}(.*))?$", row)
        if found:
            flags.append([found.group(1), found.group(2) or "", found.group(3) or ""])
        elif flags and row[:1] == " " and row.strip():
            flags[-1][2] = (flags[-1][2] + " " + row.strip()).strip()
    rows = []
    for name, value, text in flags:
        found = re.fullmatch(r"(.*) \(default (.*)\)", text)
        rows.append((name, value, *(found.groups() if found else (text, None))))
    return rows


def file_options(help_text):
    """Options that the file knows too: those that have a default."""
    return [row for row in flags_of(help_text) if row[3] is not None]


def flag_term(name, value):
    return f"\\fB\\-\\-{escape(name)}\\fR" + (f"=\\fI{escape(value)}\\fR" if value else "")


def program_page(section, name, summary, here, pages):
    """A page up to the list of options, and what NAME.text has for after it."""
    page = Page(section, [name], summary, name, pages)
    page.heading("SYNOPSIS")
    page.rows.append(f"\\fB{escape(name)}\\fR [\\fIOPTION\\fR]...")
    parts = dict(parts_of((here / f"{name}.text").read_text()))
    page.heading("DESCRIPTION")
    page.text(parts.pop("DESCRIPTION"))
    page.heading("OPTIONS")
    return page, parts


def daemon_page(program, summary, others, help_text, here, pages):
    page, parts = program_page(8, program, summary, here, pages)
    page.paragraph(f"Those that {program}.yaml(5) knows too, which says more of each:")
    for name, value, text, normal in file_options(help_text):
        page.term(flag_term(name, value), f"{text}. Default: {normal}.")
    page.paragraph("Of the command line alone:")
    for name, value, text, normal in flags_of(help_text):
        if normal is None:
            page.term(flag_term(name, value), text.rstrip(".") + ".")
    tail(page, parts.items())
    page.see_also([f"{program}.yaml", *others])
    return page


def yaml_page(program, others, options, help_text, here, pages):
    page = Page(5, [f"{program}.yaml"], f"configuration of {program}", f"{program}.yaml", pages)
    parts = dict(parts_of((here / f"{program}.yaml.text").read_text()))
    advice = options_of((here / options).read_text())
    page.heading("DESCRIPTION")
    page.text(parts.pop("DESCRIPTION"))
    page.heading("OPTIONS")
    for name, value, text, normal in file_options(help_text):
        page.term(f"\\fB{escape(name)}:\\fR \\fI{escape(value)}\\fR", f"{text}. Default: {normal}.")
        if name in advice:
            page.rows.append(".RS")
            page.text(advice[name])
            page.rows.append(".RE")
    tail(page, parts.items())
    page.see_also(others)
    return page


def exporter_page(exporter, here, pages):
    page, parts = program_page(1, "etag-exporter", "serves the figures of etagd over HTTP", here, pages)
    for name, value, text, normal in flags_of(run(exporter)):
        page.term(flag_term(name, value), text.rstrip(".") + "." + (f" Default: {normal}." if normal else ""))
    tail(page, parts.items())
    page.see_also(["etagctl-stats", "etagd"])
    return page


def etagd_pages(etagd, here, pages):
    help_text = run(etagd)
    return [daemon_page("etagd", "shared-memory cache of HTTP entity tags", ["etagctl", "etag"], help_text, here, pages),
            yaml_page("etagd", ["etagd", "etagctl"], "options.text", help_text, here, pages)]


def relay_pages(relay, here, pages):
    help_text = run(relay)
    return [daemon_page("etag-relay", "carries the promise of etagd to many hosts", ["etagd"], help_text, here, pages),
            yaml_page("etag-relay", ["etag-relay", "etagd.yaml"], "relay-options.text", help_text, here, pages)]
