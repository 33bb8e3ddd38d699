"""The arguments of all commands, and the frame around a command: settings, warnings, errors, exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from ensemblefuse import __version__
from ensemblefuse._config import config_context
from ensemblefuse.cli._messages import FAILED, INTERRUPTED, WRONG_USAGE, CommandError, describe, install_warning_printer

__all__ = ["main"]

# As in `ensemblefuse.compose`, which is not imported here because it loads scikit-learn; a test compares them.
KINDS = (
    *("image", "audio", "video", "text", "series", "embedding", "graph"),
    *("number", "censored", "numbers", "date", "category", "boolean", "tags", "string", "drop"),
)

_EXIT_CODES = """\
exit codes:
  0    done
  1    the work failed: a file is damaged, cells cannot be encoded, a model cannot be read
  2    the command line is wrong: an option, a file or a column does not exist
  130  interrupted with Ctrl-C; serve ends with 0
"""

_DESCRIPTION = """\
Fuse images, texts, sounds and numbers into one model.

A table (CSV, TSV or Parquet) has one row per sample. Its cells hold numbers, categories, texts, or paths of image and
sound files; relative paths start at the table's own folder. One column is the target.
"""

_START = """\
start with:
  ensemblefuse demo                                              fetch a real data set, compare models, predict
  ensemblefuse evaluate shop.csv --target category               which modalities help, and which fusion is best
  ensemblefuse fit shop.csv --target category -o shop.fuse       fit a model and save it
  ensemblefuse predict shop.fuse new.csv -o predictions.csv      use it
  ensemblefuse report shop.fuse test.csv --target category -o report.html
                                                                 one page about it, with figures

'ensemblefuse COMMAND --help' explains a command and gives an example.

"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command of the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the name of the program; by default those of the process.

    Returns
    -------
    int
        The exit code: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted.

    Examples
    --------
    >>> from ensemblefuse.cli import main
    >>> main(["inspect", "no_such_file.fuse"])
    2
    """
    try:
        args = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse raises this for --help, --version and wrong usage
        return int(stop.code or 0)
    if getattr(sys.stdout, "errors", "") == "strict" and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # for file names that are not UTF-8
    settings = {"progress": False} if args.quiet else {}
    with warnings.catch_warnings(), config_context(**settings):
        install_warning_printer()
        try:
            command = getattr(importlib.import_module(f"ensemblefuse.cli.{args.module}"), args.function)
            code = command(args)
            sys.stdout.flush()
            return int(code or 0)
        except KeyboardInterrupt:
            if args.function == "serve":  # the normal way to stop a server, also before it listens
                return 0
            print("interrupted; what was encoded so far stays in the cache.", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        except Exception as error:
            if args.debug:
                traceback.print_exc()
            print(f"error: {describe(error)}", file=sys.stderr)
            return error.code if isinstance(error, CommandError) else FAILED


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(WRONG_USAGE, f"error: {message} (see '{self.prog} --help')\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ensemblefuse",
        description=_DESCRIPTION,
        epilog=_START + _EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ensemblefuse {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    _add_demo(commands)
    _add_fit(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_report(commands)
    _add_serve(commands)
    _add_card(commands)
    _add_inspect(commands)
    _add_cache(commands)
    return parser


def _command(commands, name: str, place: str, summary: str, example: str) -> argparse.ArgumentParser:
    module, function = place.split(":")
    command = commands.add_parser(
        name,
        help=summary.splitlines()[0],
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("-q", "--quiet", action="store_true", help="no progress bars and no notes; results only")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(module=module, function=function)
    return command


def _add_demo(commands) -> None:
    command = _command(
        commands,
        "demo",
        "_demo:demo",
        "fetch a real data set and run the whole flow, from files to predictions\n\n"
        "Uses the pictures, texts and recordings of the Tux Paint stamps (161 MB, fetched once with apt-get), or\n"
        "digits if these cannot be fetched. Encodes them, compares each modality alone with the fusions of all,\n"
        "saves the best model, loads it and predicts rows that it has not seen. A second run encodes nothing, and\n"
        "replaces the model file of the first one; no other file is replaced.",
        "ensemblefuse demo --output demo_model.fuse",
    )
    command.add_argument("--output", default="demo_model.fuse", metavar="PATH", help="the model file (%(default)s)")
    command.add_argument(
        "--data",
        choices=("auto", "tux-paint", "digits"),
        default="auto",
        help="auto uses the stamps, or the digits if the stamps cannot be fetched (default)",
    )
    _add_cv(command)
    _add_jobs(command)


def _add_fit(commands) -> None:
    command = _command(
        commands,
        "fit",
        "_commands:fit",
        "fit a fused model to a table and save it\n\n"
        "Decides what each column holds and prints it, encodes the columns, fits, and prints the model's own\n"
        "out-of-fold scores.",
        "ensemblefuse fit shop.csv --target category --drop sku -o shop.fuse",
    )
    _add_table(command)
    command.add_argument("-o", "--output", required=True, metavar="MODEL.fuse", help="the model file to write")
    command.add_argument(
        "--strategy",
        choices=("hybrid", "decision", "feature"),
        default="hybrid",
        help="decision: one estimator per modality, then combined; feature: one over all; hybrid: both (default)",
    )
    command.add_argument("--overwrite", action="store_true", help="replace MODEL.fuse if it exists")


def _add_evaluate(commands) -> None:
    command = _command(
        commands,
        "evaluate",
        "_commands:evaluate",
        "cross-validate each modality alone and the fusions of all\n\nSaves no model.",
        "ensemblefuse evaluate shop.csv --target category --cv 5 --csv scores.csv",
    )
    _add_table(command)
    _add_cv(command)
    command.add_argument("--csv", metavar="FILE", help="write the scores to this CSV file too")
    command.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")


def _add_predict(commands) -> None:
    command = _command(
        commands,
        "predict",
        "_predict:predict",
        "predict the rows of a table with a saved model\n\n"
        "Adds the column 'prediction', 'proba_<class>' for each class, and 'error' to the columns of the table.\n"
        "A conformal model adds 'set' (a JSON list of classes), or 'lower' and 'upper', and 'calibrated': whether fit\n"
        "has seen the row's combination of modalities. For others the coverage is measured with modalities hidden; if\n"
        "that cannot be done, the set has all classes, or the interval is infinite.\n"
        "Every row is kept: a row with a cell that cannot be read has no prediction, and the reason in 'error'.\n"
        "Columns of the model that the table lacks count as missing. The table is read and written in pieces, and\n"
        "may be larger than the memory; --resume continues a run that was stopped.",
        "ensemblefuse predict shop.fuse new.csv -o predictions.csv",
    )
    command.add_argument("model", metavar="MODEL", help="a file written by 'ensemblefuse fit' or save_model")
    command.add_argument("table", metavar="TABLE", help="a .csv, .tsv or .parquet file")
    command.add_argument(
        "-o", "--output", metavar="OUT", help="a .csv, .tsv or .parquet file; without it, CSV on standard output"
    )
    command.add_argument(
        "--on-error",
        choices=("keep", "missing", "raise"),
        help="a cell that cannot be read: keep the row without a prediction, take the cell as missing, or stop\n"
        "(default: missing if the model was fitted with it, else keep)",
    )
    _add_form(command)
    command.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    command.add_argument(
        "--resume",
        action="store_true",
        help="continue a run that was stopped, with the same --chunk-rows and --on-error",
    )
    command.add_argument("--restart", action="store_true", help="start again, and discard the rows of an earlier run")
    command.add_argument(
        "--chunk-rows", type=_count, default=1000, metavar="N", help="rows to read and write at once (%(default)s)"
    )
    _add_trusted(command)


def _add_report(commands) -> None:
    command = _command(
        commands,
        "report",
        "_report:report",
        "write one HTML page about a saved model\n\n"
        "Which modality improves the model, where the model fails, what happens when a modality is missing, and\n"
        "explanations of single rows. The rows of the table are taken to be new to the model; with --trained-on they\n"
        "are the rows of fit, and the scores are those of the out-of-fold predictions that the model keeps.",
        "ensemblefuse report shop.fuse test.csv --target category -o report.html",
    )
    command.add_argument("model", metavar="MODEL", help="a file written by 'ensemblefuse fit' or save_model")
    command.add_argument("table", metavar="DATA", help="a .csv, .tsv or .parquet file, one row per sample")
    command.add_argument("--target", required=True, metavar="COLUMN", help="the column that the model predicts")
    command.add_argument("-o", "--output", required=True, metavar="PAGE.html", help="the page to write")
    command.add_argument("--overwrite", action="store_true", help="replace PAGE.html if it exists")
    command.add_argument(
        "--trained-on", action="store_true", help="the rows are those of fit, all of them and in the same order"
    )
    command.add_argument(
        "--groups", metavar="COLUMN", help="the bootstrap draws rows with the same value here together"
    )
    command.add_argument("--title", metavar="TEXT", help="the title of the page (the names of the two files)")
    command.add_argument("--rows", type=_number, default=5, metavar="N", help="rows to explain (%(default)s)")
    command.add_argument("--seed", type=_number, default=0, metavar="N", help="seed of all random draws (%(default)s)")
    _add_form(command)
    _add_on_error(command, default=None)
    _add_trusted(command)


def _add_serve(commands) -> None:
    command = _command(
        commands,
        "serve",
        "_serve:serve",
        "serve predictions over HTTP\n\n"
        "POST /predict takes rows as JSON or as a form with files; GET /openapi.json describes the model's columns,\n"
        "and / is a page to try it. Requests leave nothing on the disk, and only their shape is logged, not their\n"
        "content. Needs pip install 'ensemblefuse[serve]'.",
        "ensemblefuse serve shop.fuse --port 8000",
    )
    command.add_argument("model", metavar="MODEL", help="a file written by 'ensemblefuse fit' or save_model")
    command.add_argument("--host", default="127.0.0.1", help="the address; if others can reach it, it needs a token")
    command.add_argument("--port", type=_number, default=8000, metavar="N", help="0 for any free port (%(default)s)")
    command.add_argument(
        "--token-file",
        metavar="FILE",
        help="a file that holds the token, at least 16 characters; or set ENSEMBLEFUSE_TOKEN (default: no token)",
    )
    command.add_argument("--files", metavar="FOLDER", help="a folder; cells may name its files (default: none)")
    size: dict[str, Any] = {"type": _bytes, "metavar": "SIZE"}
    number: dict[str, Any] = {"type": _count, "metavar": "N"}
    seconds: dict[str, Any] = {"type": _seconds, "metavar": "S"}
    command.add_argument("--max-body", **size, default=20_000_000, help="size of a request, such as 20MB (%(default)s)")
    command.add_argument("--max-rows", **number, default=256, help="rows of a request (%(default)s)")
    command.add_argument(
        "--max-pixels", **number, default=50_000_000, help="pixels of all pictures in a cell (%(default)s)"
    )
    command.add_argument("--max-seconds", **seconds, default=600.0, help="length of a sound or video (%(default)s)")
    command.add_argument(
        "--max-characters", **number, default=500_000, help="characters of a text or category (%(default)s)"
    )
    command.add_argument(
        "--max-numbers", **number, default=100_000, help="numbers of a series, embedding or graph (%(default)s)"
    )
    command.add_argument("--max-batch", **number, default=32, help="rows that the model sees at once (%(default)s)")
    command.add_argument("--timeout", **seconds, default=30.0, help="seconds from request to answer (%(default)s)")
    command.add_argument(
        "--header-timeout", **seconds, default=10.0, help="seconds in which the head of a request arrives (%(default)s)"
    )
    command.add_argument("--cache", action="store_true", help="keep the embeddings of requests in the user's cache")
    _add_trusted(command)


def _add_card(commands) -> None:
    command = _command(
        commands,
        "card",
        "_card:card",
        "write the model card of a saved model, in Markdown\n\n"
        "What the model is, what it was fitted on, which weights it reads and their licences, how it scores, what\n"
        "happens when a modality is missing, what it needs and what is not known. Without DATA, the scores are those\n"
        "of the out-of-fold predictions that the model keeps; with DATA, those of rows that are new to the model.",
        "ensemblefuse card shop.fuse test.csv --target category -o README.md",
    )
    command.add_argument("model", metavar="MODEL", help="a file written by 'ensemblefuse fit' or save_model")
    command.add_argument("table", metavar="DATA", nargs="?", help="a .csv, .tsv or .parquet file of new rows")
    command.add_argument("--target", metavar="COLUMN", help="the column of DATA that the model predicts")
    command.add_argument("-o", "--output", required=True, metavar="CARD.md", help="the card to write")
    command.add_argument("--overwrite", action="store_true", help="replace CARD.md if it exists")
    command.add_argument(
        "--groups", metavar="COLUMN", help="the bootstrap draws rows of DATA with the same value here together"
    )
    command.add_argument("--title", metavar="TEXT", help="the title (the name of the model file)")
    command.add_argument("--intended-use", metavar="TEXT", help="what the model is for, in Markdown")
    command.add_argument(
        "--limit", nargs="+", action="extend", default=[], metavar="TEXT", help="limits that cannot be measured"
    )
    command.add_argument("--license", metavar="NAME", help="the licence of the model, for the header, such as mit")
    _add_form(command)
    _add_trusted(command)


def _add_inspect(commands) -> None:
    command = _command(
        commands,
        "inspect",
        "_inspect:inspect",
        "print what a model file holds, without loading the model",
        "ensemblefuse inspect shop.fuse",
    )
    command.add_argument("model", metavar="MODEL", help="a file written by 'ensemblefuse fit' or save_model")
    command.add_argument("--json", action="store_true", help="print JSON")


def _add_cache(commands) -> None:
    command = _command(
        commands,
        "cache",
        "_cache:cache",
        "manage the cache of embeddings\n\n"
        "The cache holds a vector for each encoded cell, so that no cell is encoded twice. The environment variable\n"
        "ENSEMBLEFUSE_CACHE names its folder, or turns it off with the value 'off'. All actions except clear may run\n"
        "while other processes use the cache.",
        "ensemblefuse cache info",
    )
    common = _Parser(add_help=False)  # the same options as the command, but without their own defaults
    for flags, text in ((("-q", "--quiet"), "no notes"), (("--debug",), "show the traceback of an error")):
        common.add_argument(*flags, action="store_true", default=argparse.SUPPRESS, help=text)
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=_Parser)

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=summary, description=summary, parents=[common], allow_abbrev=False)

    add("info", "folder, encoders, vectors and size")
    verify = add("verify", "compare checksums, and compare vectors with new ones by a model's encoders")
    verify.add_argument("--sample", type=_count, metavar="N", help="cells to encode again for each modality")
    verify.add_argument("--model", metavar="MODEL", help="the model file whose encoders to use")
    _add_trusted(verify)
    verify.add_argument("--table", metavar="TABLE", help="the table that holds the cells")
    _add_form(verify)
    export = add("export", "write all vectors into one file, to merge elsewhere")
    export.add_argument("path", metavar="FILE", help="the file to write")
    export.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    merge = add("merge", "add the vectors of an exported file or of another cache folder")
    merge.add_argument("source", metavar="SOURCE", help="the file or folder")
    prune = add("prune", "remove damaged and superseded records, and the least recently used vectors")
    prune.add_argument("--max-size", type=_bytes, metavar="SIZE", help="keep at most this size, such as 500MB or 2GB")
    prune.add_argument("--unused-days", type=_days, metavar="N", help="remove vectors that were not used for N days")
    forget = add("forget", "remove the vectors of these files and texts, by all encoders")
    forget.add_argument("path", nargs="*", metavar="FILE", help="files with the content to forget")
    forget.add_argument("--text", nargs="+", action="extend", default=[], metavar="TEXT", help="texts to forget")
    forget.add_argument("--table", metavar="TABLE", help="a table of samples; all its cells are forgotten")
    _add_form(forget)
    forget.add_argument("--id", metavar="COLUMN", help="the column of TABLE with the samples' ids")
    forget.add_argument("--ids", nargs="+", action="extend", default=[], metavar="ID", help="only these rows of TABLE")
    forget.add_argument(
        "--models",
        nargs="+",
        action="extend",
        default=[],
        metavar="MODEL",
        help="model files, or folders with model files; prints which of them saw the samples",
    )
    clear = add("clear", "delete all vectors")
    clear.add_argument("--yes", action="store_true", help="do not ask for confirmation")


# ---------------------------------------------------------------------- options that commands share


def _add_table(command: argparse.ArgumentParser) -> None:
    command.add_argument("table", metavar="TABLE", help="a .csv, .tsv or .parquet file, one row per sample")
    command.add_argument("--target", required=True, metavar="COLUMN", help="the column to predict")
    command.add_argument(
        "--kind",
        nargs="+",
        action="extend",
        default=[],
        type=_kind,
        metavar="COLUMN=KIND",
        help=f"what a column holds, if the automatic choice fails or is wrong: {', '.join(KINDS)}",
    )
    command.add_argument(
        "--drop", nargs="+", action="extend", default=[], metavar="COLUMN", help="columns that are not features"
    )
    command.add_argument("--regression", action="store_true", help="the target is a number, such as 12.5 or '€12.50'")
    command.add_argument(
        "--groups",
        metavar="COLUMN",
        help="rows with the same value here stay on one side of every split; it is not a feature",
    )
    _add_form(command)
    _add_on_error(command, default="raise")
    _add_jobs(command)


def _add_form(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--sep", type=_sign, metavar="SIGN", help="the sign between the columns of a .csv file, such as ';' (a comma)"
    )
    command.add_argument(
        "--encoding", type=_encoding, metavar="NAME", help="the encoding of a .csv or .tsv file, such as cp1252 (UTF-8)"
    )


def _add_on_error(command: argparse.ArgumentParser, *, default: str | None) -> None:
    command.add_argument(
        "--on-error",
        choices=("raise", "missing"),
        default=default,
        help="a cell that cannot be encoded: stop and list all such cells, or take the cell as missing "
        f"(default: {default or 'as in fit'})",
    )


def _add_trusted(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--trusted", nargs="+", action="extend", default=[], metavar="TYPE", help="further types that the file may hold"
    )


def _add_cv(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--cv", type=_folds, default=5, metavar="N", help="folds of the cross-validation (%(default)s)"
    )


def _add_jobs(command: argparse.ArgumentParser) -> None:
    command.add_argument("--jobs", type=_jobs, metavar="N", help="processes for the fits; -1 for all cores (1)")


def _kind(text: str) -> tuple[str, str]:
    column, equals, kind = text.rpartition("=")
    if not equals or not column or kind not in KINDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not COLUMN=KIND with a kind of {', '.join(KINDS)}")
    return column, kind


def _sign(text: str) -> str:
    sign = "\t" if text == "\\t" else text
    if len(sign) != 1 or sign in '\r\n"':
        raise argparse.ArgumentTypeError(f"{text!r} is not one sign, such as ';', '|' or '\\t'")
    return sign


def _encoding(text: str) -> str:
    try:
        "a".encode(text)
    except (LookupError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is no encoding of texts, such as utf-8, cp1252 or utf-16") from None
    return text


def _folds(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 2")
    return int(text)


def _jobs(text: str) -> int:
    try:
        jobs = int(text)
    except ValueError:
        jobs = 0
    if jobs < -1 or jobs == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes: 1, 2, ... or -1 for all cores")
    return jobs


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days")
    return days


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _bytes(text: str) -> int:
    """Read a size such as 500MB; a number alone is in bytes."""
    units = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "b": 1, "": 1}
    number = text.lower().rstrip("bgkmt ")
    unit = text.lower()[len(number) :].strip()
    try:
        size = float(number) * units[unit]
    except (ValueError, KeyError):
        size = -1.0
    if not 0 <= size < 1e18:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500MB or 2GB")
    return int(size)
