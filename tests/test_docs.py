"""Checks that files, headings, commands and options in the documentation exist."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import click

from cli.main import main
from tests.support.road import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHANGELOG = ROOT / "CHANGELOG.md"
"""The changelog also names files and options of earlier versions, so only its links are checked."""

PAGES = [page for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")) if page != CHANGELOG]
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != ".nextsong"}
OF_OTHER_PROGRAMS = {"--profile"}
"""Options of Docker that the text mentions without a command."""

LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
PATH = re.compile(r"\.?\w[\w.-]*(?:/[\w.-]+)+/?")


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub generates them."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code_of(page: Path) -> list[str]:
    """Return the inline code spans of a page."""
    return [" ".join(code.split()) for code in CODE.findall(BLOCK.sub("", page.read_text("utf-8")))]


def shell_lines_of(page: Path) -> Iterator[str]:
    """Yield the lines of a page's shell blocks, and lines with a prompt in other code blocks."""
    for language, block in BLOCK.findall(page.read_text("utf-8")):
        lines = block.replace("\\\n", " ").splitlines()
        yield from (line.removeprefix("$ ") for line in lines if language or line[:2] == "$ ")


def invocations_of(page: Path) -> Iterator[list[str]]:
    """Yield the words that follow `nextsong`, for each command on a page."""
    top_level = set(main.list_commands(click.Context(main)))
    shell = [line for line in shell_lines_of(page) if re.search(r"\bnextsong ", line)]
    within_text = [
        f"nextsong {code}" if code.split()[0] in top_level and " --" in code else code
        for code in code_of(page)
    ]
    for text in [*shell, *within_text]:
        if not re.search(r"(^|[ /])nextsong ", text):
            continue
        lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in {"nextsong", ".venv/bin/nextsong"}:
                words = [word]
            elif words and not word.strip("();<>|&"):
                yield words[1:]
                words = []
            elif words:
                words.append(word)


def open_context(command: click.Command, parent: click.Context | None = None) -> click.Context:
    """Return the click context of a command. Settings such as help option names are inherited."""
    return command.make_context(command.name, [], parent=parent, resilient_parsing=True)


def find_problem(words: list[str]) -> str:
    """Return the first word that `nextsong` does not accept, or "" if it accepts all words."""
    context = open_context(main)
    options = options_of(context)
    for word in words:
        if word.startswith("-") and word != "-":
            if word.split("=")[0].rstrip(",") not in options:
                return word
        elif isinstance(context.command, click.Group):
            child = context.command.get_command(context, word)
            if child is not None:
                context = open_context(child, context)
                options |= options_of(context)
            elif context.parent is None:
                return "" if word == "COMMAND" else word
    return ""


def options_of(context: click.Context, *, below: bool = False) -> set[str]:
    """Return the options of a command. If `below` is set, include those of all its subcommands."""
    command = context.command
    parameters = command.get_params(context)
    options = {name for param in parameters for name in (*param.opts, *param.secondary_opts)}
    if below and isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            options |= options_of(open_context(child, context), below=True)
    return options


def test_links_lead_to_files_and_headings() -> None:
    broken = []
    for page in [*PAGES, CHANGELOG]:
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if link.startswith(("http://", "https://")):
                continue
            if not target.exists() or (anchor and anchor not in anchors_of(target)):
                broken.append(f"{page.name}: {link}")
    assert broken == []


def test_paths_of_the_repository_exist() -> None:
    named = [
        (page.name, code)
        for page in PAGES
        for code in code_of(page)
        if PATH.fullmatch(code) and code.split("/")[0] in FOLDERS
    ]
    assert len(named) > 20
    assert [(name, path) for name, path in named if not (ROOT / path).exists()] == []


def test_commands_and_their_options_exist() -> None:
    shown = [(page.name, words) for page in PAGES for words in invocations_of(page)]
    assert len(shown) > 50
    unknown = {
        f"{name}: nextsong {' '.join(words)}: {problem}"
        for name, words in shown
        if (problem := find_problem(words))
    }
    assert unknown == set()


def test_options_in_the_text_exist() -> None:
    options = options_of(open_context(main), below=True) | OF_OTHER_PROGRAMS
    unknown = {
        f"{page.name}: {word}"
        for page in PAGES
        for code in code_of(page)
        if code.startswith("--")
        for word in code.split()
        if word.startswith("--") and word.split("=")[0] not in options
    }
    assert unknown == set()


def test_the_image_can_copy_what_its_dockerfile_names() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [
        source.rstrip("/")
        for line in dockerfile.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert copied != []
    assert [source for source in copied if f"!{source}" not in sent] == []
