# SPDX-License-Identifier: Apache-2.0
"""The pages of section 3, of the comments of etag.h: a page for each function, or for those that one comment describes, and
etag(3) with what all of them share.
"""
import re

from troff import Page, escape, first_sentence

SECTION = re.compile(r"/\* ---- (.*?) -+ \*/\n")
FUNCTIONS = re.compile(r"(?:/\*((?:(?!\*/).)*?)\*/\n)?((?:ETAG_API (?:(?!;).)*;(?:[ \t]*/\*[^\n]*\*/)?\n)+)", re.DOTALL)
TYPE = re.compile(r"(?:/\*((?:(?!\*/).)*?)\*/\n)?typedef (struct|enum) (etag_\w+) \{\n(.*?)\n\} \3;\n", re.DOTALL)
# What tells of an argument, of errors or of the result begins a paragraph.
ARGUMENT = re.compile(r"- |Errors\b|Returns |\*?[a-z_]+(?:, (?:its )?\*?[a-z_]+)*: ")
TABLE = re.compile(r"#define (ETAG_\w+)\(X\)(.*?)\n\n", re.DOTALL)


def comment_text(comment):
    """A comment without its stars."""
    return "\n".join(re.sub(r"^\s*\* ?", "", row).rstrip() for row in comment.strip("\n").split("\n")).strip("\n") if comment else ""


def dedent(comment):
    rows = comment_text(comment).split("\n")
    rows[0] = rows[0].lstrip()
    return "\n".join(rows)


def name_of(prototype):
    return re.search(r"(etag_\w+)\(", prototype).group(1)


class Function:
    def __init__(self, comment, declarations):
        self.prototypes = []
        self.text = dedent(comment)
        for found in re.finditer(r"ETAG_API ((?:(?!;).)*;)", declarations, re.DOTALL):
            prototype = " ".join(found.group(1).replace("ETAG_MUST_USE ", "").split())
            self.prototypes.append(prototype)
        self.names = [name_of(prototype) for prototype in self.prototypes]
        if not self.text:
            raise SystemExit(f"etag.h: there is no comment right before {self.names[0]}(): its man page would say nothing")


class Section:
    """The text between two rulers: functions, and comments that belong to all of them."""

    def __init__(self, title, text):
        self.title = title
        self.functions = [Function(*found.groups()) for found in FUNCTIONS.finditer(text)]
        self.notes = [comment_text(found.group(1)) for found in re.finditer(r"\n/\*\n((?: \*[^\n]*\n)+?) \*/\n", text)]


class Header:
    def __init__(self, text):
        self.overview = comment_text(re.search(r"/\*\n( \* etag\.h - .*?)\*/", text, re.DOTALL).group(1))
        parts = SECTION.split(text)[1:]
        self.sections = [Section(title, body) for title, body in zip(parts[::2], parts[1::2])]
        self.types = {found.group(3): found for found in TYPE.finditer(text)}
        self.tables = {found.group(1): re.findall(r'X\((\w+), (\d+),((?:\s*"(?:[^"\\]|\\.)*",?(?:\s|\\\n)*)+)\)', found.group(2))
                       for found in TABLE.finditer(text)}
        self.functions = [function for section in self.sections for function in section.functions]
        self.names = [name for function in self.functions for name in function.names]


def strings(text):
    """The arguments of a row of an X table: literals that the compiler would join."""
    return ["".join(re.findall(r'"((?:[^"\\]|\\.)*)"', part)) for part in re.split(r'(?<="),', text.replace("\\\n", "")) if '"' in part]


def prototype_rows(prototype):
    """One row, or an argument a row where it is too long."""
    if len(prototype) <= 72:
        return [prototype]
    head, arguments = re.fullmatch(r"(.*?\()(.*)\);", prototype).groups()
    arguments = arguments.split(", ")
    return [head] + [f"        {argument}," for argument in arguments[:-1]] + [f"        {arguments[-1]});"]


def synopsis(page, function):
    page.heading("SYNOPSIS")
    page.rows += [".nf", "\\fB#include <etag/etag.h>\\fR", ".PP"]
    for prototype in function.prototypes:
        page.rows += [f"\\fB{escape(row)}\\fR" for row in prototype_rows(prototype)]
    page.rows += [".PP", "Link with \\fB\\-letag\\fR.", ".fi"]


def members(kind, body):
    """Declaration and comment of each member; the comment is above the member."""
    for found in re.finditer(r"(?:/\*((?:(?!\*/).)*)\*/\s*)?([^;/]+?)\s*;" if kind == "struct" else r"(?:/\*((?:(?!\*/).)*)\*/\s*)?([^,/]+?)\s*(?:,|$)",
                             body.strip(), re.DOTALL):
        declaration = " ".join(found.group(2).split())
        if declaration:
            yield declaration.replace("* ", "*"), " ".join(dedent(found.group(1) or "").split())


def type_of(page, found):
    comment, kind, name, body = found.groups()
    page.rows.append(f'.SS "{kind} {escape(name)}"')
    if "ENUM" in body:
        page.paragraph("See etag(3).")
        return
    if comment:
        page.text(dedent(comment))
    for declaration, text in members(kind, body):
        page.term("\\fB" + escape(declaration) + "\\fR", text)


def types_named(header, function):
    """The types of the prototypes and of their members, in the header's order."""
    named, todo = set(), " ".join(function.prototypes)
    while todo:
        fresh = {name for name in re.findall(r"etag_\w+", todo) if name in header.types} - named
        named |= fresh
        todo = " ".join(header.types[name].group(4) for name in fresh)
    return [found for name, found in header.types.items() if name in named]


def errors(page, header, function):
    """The statuses that the comment names, with their texts."""
    errors = re.search(r"Errors.*", function.text, re.DOTALL)
    named = [name for name, _, _ in header.tables["ETAG_STATUSES"]
             if errors and name != "OK" and re.search(rf"\b{name}\b", errors.group(0))]
    if not named:
        return
    page.heading("ERRORS")
    page.paragraph("Of those that the description names, in short:")
    for name, number, rest in header.tables["ETAG_STATUSES"]:
        if name in named:
            page.term(f"\\fBETAG_{name}\\fR ({number})", strings(rest)[0] + ".")


def overview_part(header, title):
    """The paragraphs under a line in capitals of the header's first comment."""
    found = re.search(rf"^{title}\n(.*?)(?=^[A-Z][A-Z ]+\n|\Z)", header.overview, re.DOTALL | re.MULTILINE)
    return re.sub(r"^  ", "", found.group(1), flags=re.MULTILINE)


def function_page(header, section, function, pages):
    page = Page(3, function.names, first_sentence(function.text), function.names[0], pages)
    synopsis(page, function)
    page.heading("DESCRIPTION")
    page.text(function.text, ARGUMENT)
    errors(page, header, function)
    for note in section.notes:
        page.heading(section.title.upper())
        page.text(note)
    types = types_named(header, function)
    if types:
        page.heading("TYPES")
        for found in types:
            type_of(page, found)
    if re.search(r"etag_(client|op|guard) \*", " ".join(function.prototypes)):
        page.heading("THREADS AND FORK")
        page.text(overview_part(header, "THREADS AND FORK"))
    page.see_also(["etag", *(name for other in section.functions for name in other.names), "etagd", "etagctl"])
    return page


def overview_page(header, pages):
    page = Page(3, ["etag", "libetag"], re.search(r"libetag, (.*)\.", header.overview).group(1), "etag", pages)
    page.heading("SYNOPSIS")
    page.rows += [".nf", "\\fB#include <etag/etag.h>\\fR", ".PP", "\\fBpkg\\-config \\-\\-cflags \\-\\-libs libetag\\fR", ".fi"]
    for title in ("CONCEPTS", "CAVEATS", "THREADS AND FORK", "MEMORY"):
        page.heading(title if title != "CONCEPTS" else "DESCRIPTION")
        page.text(overview_part(header, title))
    page.heading("FUNCTIONS")
    for section in header.sections:
        if not section.functions:
            continue
        page.rows.append(f'.SS "{escape(section.title)}"')
        for function in section.functions:
            names = ", ".join(f"\\fB{escape(name)}\\fR(3)" for name in function.names)
            page.term(names, first_sentence(function.text))
    for table, title, prefix in (("ETAG_STATUSES", "STATUS", "ETAG_"), ("ETAG_REASONS", "REASONS", "ETAG_REASON_")):
        page.heading(title)
        for name, number, rest in header.tables[table]:
            page.term(f"\\fB{prefix}{name}\\fR ({number})".replace("_", "_"), ": ".join(strings(rest)) + ".")
    page.heading("TYPES")
    type_of(page, header.types["etag_verdict"])
    page.see_also(["etagd", "etagctl", "etagd.yaml"])
    return page


def page_names(header):
    """Name to section of all pages."""
    return {name: 3 for name in ["etag", "libetag", *header.names]}


def pages_of(header, pages):
    yield overview_page(header, pages)
    for section in header.sections:
        for function in section.functions:
            yield function_page(header, section, function, pages)
