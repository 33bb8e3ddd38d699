"""Every code block of the pages runs as it stands, from the top of the page to its end, in an empty folder.

The blocks of one page share one namespace of Python and one folder. HTML comments, which a reader does not see, say
what a block needs. Each stands before its block:

- ``<!-- setup`` and lines of Python to ``-->``: makes what the page takes for granted, such as a table
- ``<!-- slow -->``: the next block or setup runs in the slow tests only; blocks of the shell always do
- ``<!-- server: URL -->``: the next block does not end by itself; the page goes on as soon as URL answers
- ``<!-- not run: REASON -->``: the next block cannot run here

The kind of a block is the word after its fence: ``python`` (with or without ``>>>``) and ``bash`` run, ``json``,
``toml`` and ``yaml`` are parsed, and ``text`` is no code: a drawing, or what a long run has printed.
"""

import doctest
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
import sklearn
import yaml
from markdown_it import MarkdownIt

from ensemblefuse import DecisionFusionClassifier, onnx_support
from ensemblefuse.cli import main

pytestmark = pytest.mark.all_rounds

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PARSERS = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
# Blocks that no test runs, of all pages. Make it smaller when one of them runs; never make it larger.
NOT_RUN = 8
# Marks with which .ci/run finds its commands.
CI_MARKS = {"<!-- demo -->", "<!-- test -->"}
# A line of a shell that calls the library and nothing else.
COMMAND = re.compile(r"ensemblefuse (?!serve)[\w ./-]+(#.*)?")
MARK = re.compile(r"<!-- (slow|server|not run|setup)(?::? (.*?))?(?: -->\s*|\n(.*)-->\s*)$", re.DOTALL)


@dataclass
class Block:
    kind: str
    source: str
    line: int  # the number of lines above its first one
    marks: dict[str, str] = field(default_factory=dict)


def read_blocks(text):
    """Return the blocks of a page, each with the marks before it; a setup is a block of Python."""
    blocks, marks = [], {}
    for token in MarkdownIt("commonmark").parse(text):
        found = MARK.match(token.content) if token.type == "html_block" else None
        if found and found[1] == "setup":
            blocks.append(Block("python", found[3], token.map[0] + 1, marks))
            marks = {}
        elif found:
            marks[found[1]] = found[2] or ""
        elif token.type in ("fence", "code_block"):
            blocks.append(Block(token.info, token.content, token.map[0] + 1, marks))
            marks = {}
    return blocks


BLOCKS = {page.relative_to(ROOT).as_posix(): read_blocks(page.read_text(encoding="utf-8")) for page in PAGES}


def is_slow(block):
    return "slow" in block.marks or block.kind == "bash"


class Page:
    """What the blocks of a page share: a namespace and a folder."""

    def __init__(self, name, folder, stack):
        self.path = str(ROOT / name)
        self.folder = folder
        self.stack = stack
        # As in a script: other processes get the classes of the page by value.
        self.names = {"__name__": "__main__"}
        self.port = ("", "")

    def run(self, block):
        if block.kind == "python":
            self.run_python(block)
        elif block.kind == "bash" and all(COMMAND.fullmatch(line) for line in block.source.splitlines()):
            self.run_commands(block.source.splitlines())
        elif block.kind == "bash":
            self.run_shell(block)

    def run_python(self, block):
        if ">>>" not in block.source:
            # Lines are counted from the top of the page, so that a traceback shows the line of the page.
            exec(compile("\n" * block.line + block.source, self.path, "exec"), self.names)
            return
        test = doctest.DocTestParser().get_doctest(block.source, {}, "block", self.path, block.line)
        test.globs = self.names
        printed = []
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
        assert runner.run(test, out=printed.append, clear_globs=False).failed == 0, "".join(printed)

    def run_commands(self, lines):
        """In this process: each would take seconds to start, and test_cli_bad_input.py starts all of them."""
        with warnings.catch_warnings():
            warnings.resetwarnings()  # here they are errors, and there they are printed
            for line in lines:
                assert main(shlex.split(line, comments=True)[1:]) == 0, f"{self.path}: {line}"

    def run_shell(self, block):
        url = urlsplit(block.marks.get("server", ""))
        if url.port:
            self.port = (str(url.port), str(free_port()))
        command = ["bash", "-euo", "pipefail", "-c", self.on_free_port(block.source)]
        if not url.port:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{self.path}:{block.line}\n{block.source}\n{done.stdout}\n{done.stderr}"
            assert "does not provide the extra" not in done.stderr, done.stderr
            return
        log = self.stack.enter_context((self.folder.parent / f"{url.port}.log").open("w+"))
        # A group of processes of its own, which ends as a whole.
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self.stack.callback(stop, server)
        wait_for(self.on_free_port(url.geturl()), server, Path(log.name))

    def on_free_port(self, text):
        """Return the text with a free port in place of the one that the page names, which may be taken here."""
        return re.sub(rf"\b{self.port[0]}\b", self.port[1], text) if self.port[0] else text


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_for(url, server, log):
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, log.read_text()
            time.sleep(0.2)
    raise AssertionError(f"{url} did not answer: {log.read_text()}")


def stop(server):
    try:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
    except ProcessLookupError:
        pass  # it has ended by itself
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)


@pytest.fixture
def run_page(tmp_path, cache_folder, monkeypatch):
    """Run those blocks of a page that a condition holds for."""
    folder, home = tmp_path / "empty", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    # Without this, curl ends with 0 where the server answers with an error.
    (home / ".curlrc").write_text("fail-with-body\n")
    # An environment of the documented commands has no pip of its own; the Python that made it has one. It installs
    # nothing here: it says whether what is asked for is there.
    pip = home / "pip"
    pip.write_text(f'#!/bin/sh\nexec "{sys.base_prefix}/bin/python3" -m pip "$@"\n')
    pip.chmod(0o755)
    (folder / ".venv").symlink_to(sys.prefix)
    settings = {"CURL_HOME": home, "ENSEMBLEFUSE_CACHE": cache_folder, "ENSEMBLEFUSE_PROGRESS": "off"}
    settings |= {"MPLBACKEND": "agg", "PIP_DRY_RUN": "1", "PIP_NO_INDEX": "1", "PIP_PYTHON": sys.executable}
    settings |= {"PATH": f"{home}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(folder)

    def run(name, wanted=lambda block: True, blocks=None):
        # What a page sets, in the environment or in scikit-learn, ends with it.
        with ExitStack() as stack, patch.dict(os.environ), sklearn.config_context():
            page = Page(name, folder, stack)
            for block in BLOCKS[name] if blocks is None else blocks:
                if wanted(block) and "not run" not in block.marks:
                    page.run(block)
            if "matplotlib.pyplot" in sys.modules:
                sys.modules["matplotlib.pyplot"].close("all")

    return run


@pytest.mark.by_turns
@pytest.mark.parametrize("name", BLOCKS)
def test_the_quick_blocks_of_a_page_run(name, run_page):
    run_page(name, lambda block: not is_slow(block))


NEEDS_SHELL = pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="needs bash and curl")
HAVE_SLOW = [
    name for name, blocks in BLOCKS.items() if any(is_slow(block) and "not run" not in block.marks for block in blocks)
]


@pytest.mark.slow
@NEEDS_SHELL
@pytest.mark.parametrize("name", HAVE_SLOW)
def test_all_blocks_of_a_page_run(name, run_page, monkeypatch):
    if name == "README.md":  # some sixty fits
        monkeypatch.setitem(DecisionFusionClassifier.__init__.__kwdefaults__, "effort", "low")
    run_page(name)


# What begins a line of code; a block of text must not hide one.
COMMANDS = "sudo|python3?|pip|curl|git|bash|ensemblefuse|mlflow|from|import"
CODE = re.compile(rf"^\s*(>>> |\$ |(\S*/bin/)?({COMMANDS}) \S)", re.MULTILINE)


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_says_what_it_is(name):
    for block in BLOCKS[name]:
        where = f"{name}:{block.line}"
        if block.kind in PARSERS:
            PARSERS[block.kind](block.source)
        elif block.kind == "text":
            assert not CODE.search(block.source), f"{where}: a block of text that looks like code"
        else:
            assert block.kind in ("python", "bash") or "not run" in block.marks, f"{where}: unknown kind {block.kind!r}"


def test_few_blocks_are_not_run_and_each_says_why():
    reasons = [block.marks["not run"] for blocks in BLOCKS.values() for block in blocks if "not run" in block.marks]
    assert all(len(reason.split()) > 2 for reason in reasons), reasons
    assert len(reasons) == NOT_RUN, f"NOT_RUN is {NOT_RUN}, and the pages have {len(reasons)}: {reasons}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_comment_is_a_mark_of_the_next_block(page):
    """A misspelt mark would be no mark."""
    waiting = []
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            assert MARK.match(token.content) or token.content.strip() in CI_MARKS, token.content
            waiting += [] if token.content.startswith("<!-- setup") else [token.content]
        elif token.type == "fence":
            waiting = []
        else:
            assert not waiting, f"{waiting} stand before no block"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_extras_that_a_page_names_exist(page):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for named in re.findall(r"(?:ensemblefuse|\.)\[([a-z0-9,]+)\]", page.read_text(encoding="utf-8")):
        assert set(named.split(",")) <= set(extras), named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        if urlsplit(link).scheme:
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page):
    """Return the names that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# ---------------------------------------------------------------------- what the pages say that code has printed


def test_the_table_of_the_first_page_is_what_the_three_lines_print(run_page, capsys):
    blocks = BLOCKS["README.md"]
    made = next(block for block in blocks if "make_media" in block.source)
    asked = read_blocks("```python\nfrom ensemblefuse import infer_modalities\n\ninfer_modalities(df)\n```")
    run_page("README.md", blocks=[made, *asked])
    assert capsys.readouterr().out == next(block.source for block in blocks if block.source.startswith("column  kind"))


def test_the_page_of_onnx_counts_what_works():
    works = onnx_support().query("works")["kind"].value_counts()
    counted = (
        f"{works['classifier']} classifiers, {works['regressor']} regressors and {works['transformer']} transformers"
    )
    assert counted in (ROOT / "docs" / "export.md").read_text(encoding="utf-8")


# ---------------------------------------------------------------------- the runner itself


def fails(page, run_page):
    with pytest.raises(BaseException) as caught:
        run_page("README.md", blocks=read_blocks(page))
    return str(caught.value)


def test_blocks_share_names_and_a_folder_and_setups_are_blocks(run_page):
    page = """
<!-- setup
from pathlib import Path

Path("made.txt").write_text("1")
-->

```python
number = int(Path("made.txt").read_text())
```

1. In a list:

   ```python
   >>> number + 1
   2

   ```

```json
{"read": "and not run"}
```
"""
    assert [block.kind for block in read_blocks(page)] == ["python", "python", "python", "json"]
    run_page("README.md", blocks=read_blocks(page))


def test_a_block_that_fails_is_noticed(run_page):
    assert "no_such_name" in fails("```python\nno_such_name\n```", run_page)
    assert "Expected" in fails("```python\n>>> 1 + 1\n3\n\n```", run_page)
    assert "no_such_name" in fails("<!-- setup\nno_such_name\n-->", run_page)
    with pytest.raises(ValueError, match="delimiter"):
        PARSERS["json"]('{"a" 1}')


@NEEDS_SHELL
def test_a_command_that_fails_is_noticed(run_page):
    assert "no-such-file" in fails("```bash\ncat no-such-file\ntrue\n```", run_page)
    assert "unset" in fails("```bash\necho $unset_variable\n```", run_page)


@NEEDS_SHELL
def test_a_server_runs_until_its_page_ends_and_its_errors_are_noticed(run_page, tmp_path):
    page = """
<!-- server: http://localhost:8000/ -->
```bash
echo $$ >server.pid; exec python -m http.server 8000 --bind 127.0.0.1
```

```bash
curl -s localhost:8000/server.pid
```

```bash
curl -s localhost:8000/absent
```
"""
    assert "404" in fails(page, run_page)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "empty" / "server.pid").read_text()), 0)


def test_a_block_that_is_not_run_or_slow_says_so_to_the_next_block_alone(run_page):
    page = "<!-- not run: a good reason -->\n<!-- slow -->\n```python\n1 / 0\n```\n\n```python\n1 / 1\n```\n"
    first, second = read_blocks(page)
    assert first.marks == {"not run": "a good reason", "slow": ""} and second.marks == {}
    assert is_slow(first) and not is_slow(second)
    run_page("README.md", blocks=[first, second])
