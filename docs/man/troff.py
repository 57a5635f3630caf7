# SPDX-License-Identifier: Apache-2.0
"""Text as man(7): what all pages share.

The text that pages are made of is that of comments and of `--help`: paragraphs, and indented blocks. A block whose lines have
two columns is a list of terms; any other is shown as it is.
"""
import re

POINT = re.compile("- ")
WIDTH = 76  # of a line that is shown as it is
ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "^": "\\(ha", "~": "\\(ti", "`": "\\(ga", '"': "\\(dq"}


def escape(text):
    return "".join(ESCAPES.get(char, char) for char in text)


def line(text):
    """A line of output that is no request."""
    return "\\&" + text if text[:1] == "." else text


def columns(row):
    """The text left and right of the first gap of two blanks; None where there is no gap."""
    found = re.fullmatch(r"\s*(\S.*?) {2,}(\S.*)", row)
    return found.groups() if found else None


class Page:
    """One page. names: the text before the dash, and under which names the page is found."""

    def __init__(self, section, names, summary, title, pages):
        self.section, self.names, self.title, self.pages = section, names, title, pages
        self.rows = []
        self.heading("NAME")
        self.rows.append(f"{', '.join(escape(name) for name in names)} \\- {escape(summary)}")

    def heading(self, text):
        self.rows.append(f".SH {escape(text)}" if " " not in text else f'.SH "{escape(text)}"')

    def inline(self, text):
        """Escaped, with bold names of functions and other pages."""
        def reference(found):
            name, section = found.group(1), found.group(2)
            section = section or self.pages.get(name)
            return f"\\fB{escape(name)}\\fR({section})" if section else escape(found.group(0))
        out, at = [], 0
        for found in re.finditer(r"\b([a-z][a-z_.-]*)\((\d?)\)", text):
            out += [escape(text[at:found.start()]), reference(found)]
            at = found.end()
        return re.sub(r"\*(\w+)\*", r"\\fI\1\\fR", "".join(out) + escape(text[at:]))

    def paragraph(self, text, macro=".PP"):
        if self.rows[-1].startswith((".SH", ".SS")) and macro == ".PP":
            macro = None
        self.rows += ([macro] if macro else []) + [line(self.inline(" ".join(text.split())))]

    def literal(self, rows):
        """As it is; the second column of a row that is too wide goes below it."""
        while rows and not rows[-1].strip():
            rows = rows[:-1]
        indent = min(len(row) - len(row.lstrip()) for row in rows if row.strip())
        if not self.rows[-1].startswith((".SH", ".SS")):
            self.rows.append(".PP")
        self.rows += [".RS 4", ".nf"]
        for row in rows:
            row = row[indent:].rstrip()
            pair = columns(row) if len(row) > WIDTH else None
            depth = len(row) - len(row.lstrip())
            parts = [" " * depth + pair[0], " " * (depth + 8) + pair[1]] if pair else [row]
            self.rows += [line(escape(part)) for part in parts]
        self.rows += [".fi", ".RE"]

    def term(self, term, text):
        """term: escaped already."""
        self.rows += [".TP", line(term), line(self.inline(" ".join(text.split())) or "\\&")]

    def block(self, rows):
        """An indented block: terms where every row that is no continuation has two columns."""
        depth = len(rows[0]) - len(rows[0].lstrip())
        terms = []
        for row in rows:
            pair = columns(row)
            if len(row) - len(row.lstrip()) == depth and pair:
                terms.append([pair[0], pair[1]])
            elif len(row) - len(row.lstrip()) > depth + 6 and terms:
                terms[-1][1] += " " + row.strip()
            else:
                return self.literal(rows)
        for term, text in terms:
            self.term("\\fB" + escape(term) + "\\fR", text)
        return None

    def text(self, text, begins=POINT):
        """Paragraphs and indented blocks. begins: what a line that begins a paragraph may look like."""
        for rows in paragraphs(text, begins):
            if rows[0][:1] == " " or all(columns(row) or row[:1] == " " for row in rows):
                self.block(rows)
            elif rows[0].startswith("- "):
                self.paragraph(" ".join(rows)[2:], ".IP \\(bu 3")
            else:
                self.paragraph(" ".join(rows))

    def see_also(self, names):
        self.heading("SEE ALSO")
        rows = [f"\\fB{escape(name)}\\fR({self.pages[name]})" for name in names if name not in self.names]
        self.rows.append(",\n".join(rows))

    def format(self, version, date):
        head = f'.TH {self.title.upper()} {self.section} {date} "etagd {version}" "etagd"'
        return "\n".join([".\\\" SPDX-License-Identifier: Apache-2.0",
                          ".\\\" Made by docs/man/make_pages; do not edit.", head, *self.rows]) + "\n"


def paragraphs(text, begins):
    """Groups of lines; an indented line after a paragraph goes on with it."""
    groups = [[]]
    for row in text.strip("\n").split("\n"):
        group = groups[-1]
        if not row.strip():
            groups.append([])
        elif group and row[:1] != " " and (group[0][:1] == " " or begins.match(row)):
            groups.append([row])
        else:
            group.append(row)
    return [group for group in groups if group]


def first_sentence(text):
    """For the line NAME: a first sentence without its dot, as part of one."""
    sentence = re.split(r"[.:;](?:\s|$)", " ".join(text.split()), maxsplit=1)[0]
    return sentence if sentence[1:2].isupper() else sentence[0].lower() + sentence[1:]
