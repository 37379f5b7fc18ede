"""The frame every job runs in: arguments, help, configuration, signals, exit status."""

import contextlib
import difflib
import importlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType

from pydantic import BaseModel

from raypt.config_help import help_text, origins_text, section_text, sections_text
from raypt.config_io import read
from raypt.config_values import UNITS_HELP
from raypt.errors import Terminated, UserError
from raypt.outside import redact
from raypt.retries import StorageError
from raypt.run.config import RunConfig
from raypt.run.failure import message

log = logging.getLogger("raypt")

OPTIONS = ("--config", "--dry-run", "--help", "--print-config")
DONE, FAILED, MISTAKE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
"""Exit statuses: a mistake is the user's to mend; the last two are 128 and the number of the signal."""


@dataclass
class Arguments:
    """A command line, taken apart."""

    config_uri: str | None = None
    overrides: list[str] = field(default_factory=list)
    print_config: bool = False
    dry_run: bool = False
    help: str | None = None
    """Section or key that is asked about, `all`, or "" for an overview; None: nothing is asked."""


def parse_arguments(argv: list[str]) -> Arguments:
    """`[--config FILE] [--dry-run] [--print-config] [--help [SECTION]] [dotted.key=value ...]`."""
    out, rest = Arguments(), list(argv)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if name == "--config":
            if not equals and not rest:
                raise UserError("--config needs a file")
            if out.config_uri is not None:
                raise UserError("--config is given twice; put one file's keys into the other")
            out.config_uri = value if equals else rest.pop(0)
        elif argument in ("-h", "--help"):
            out.help = rest.pop(0) if rest and "=" not in rest[0] and not rest[0].startswith("-") else ""
        elif argument == "--print-config":
            out.print_config = True
        elif argument == "--dry-run":
            out.dry_run = True
        elif argument.startswith("-"):
            near = difflib.get_close_matches(name, OPTIONS, 1, 0.6)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise UserError(
                f"unknown option {name}{hint} Options are --config FILE, --dry-run, --print-config, --help [SECTION] "
                "and dotted.key=value"
            )
        else:
            out.overrides.append(argument)
    return out


def run_job(name: str, module: str, doc: str, argv: list[str], schema: type[BaseModel] = RunConfig) -> int:
    """Run `main(config)` of `module` with the configuration that the arguments name; returns the exit status. Of
    another `schema`, `main` gets what was read of it (`Loaded`): a study's variants start from what was said.

    0: done. 1: failed (the message names the file with the traceback). 2: a mistake in the configuration or the input,
    named in the message. 130 and 143: interrupted or terminated; the same command resumes.
    """
    command = f"raypt {name}"
    try:
        arguments = parse_arguments(argv)
        if arguments.help is not None:
            print(_help(command, doc, arguments.help, schema))
            return DONE
        loaded = read(schema, arguments.config_uri, arguments.overrides)
        if arguments.print_config:
            print(origins_text(loaded), end="")
            return DONE
        if arguments.dry_run:
            if schema is not RunConfig:
                raise UserError(f"--dry-run: {name} has none")
            from raypt.run.forecast import forecast  # here: it reads no Ray, but all rooms

            assert isinstance(loaded.config, RunConfig), "other schemas have no forecast"
            print(forecast(name, loaded.config))
            return DONE
        with terminable():
            _set_up_logging()
            importlib.import_module(module).main(loaded.config if schema is RunConfig else loaded)
    except UserError as e:
        print(f"\n{command}: {e}", file=sys.stderr, flush=True)
        return MISTAKE
    except Terminated as e:
        print(f"{command}: terminated ({e}); the same command resumes", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        print(f"{command}: interrupted; the same command resumes", file=sys.stderr)
        return INTERRUPTED
    except StorageError as e:
        print(f"\n{command}: {storage_message(e)}. What is done is kept: the same command resumes", file=sys.stderr)
        return MISTAKE if isinstance(e, PermissionError) else FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `| head` had enough
        return DONE
    except Exception as e:
        if log.isEnabledFor(logging.DEBUG):
            print(redact(traceback.format_exc()), file=sys.stderr)
        print(f"\n{command} failed: {message(e)}\nthe same command resumes", file=sys.stderr)
        return FAILED
    return DONE


def storage_message(e: StorageError) -> str:
    """What the storage said, also where Ray wrapped it with the traceback of a task."""
    cause = getattr(e, "cause", None)
    return str(cause if isinstance(cause, StorageError) else e)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises `Terminated` on the main thread for the length of the block; a second one ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    asked = False

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated("SIGTERM")

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except Terminated:
        raise
    except KeyboardInterrupt:  # a wait of Ray's passes on a plain one
        if asked:
            raise Terminated("SIGTERM") from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _set_up_logging() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s", datefmt="%H:%M:%S")
    level = os.environ.get("RAYPT_LOG_LEVEL", "INFO")
    if level not in logging.getLevelNamesMapping():
        raise UserError(f"RAYPT_LOG_LEVEL={level}: levels are {', '.join(logging.getLevelNamesMapping())}")
    log.setLevel(level)


def _help(command: str, doc: str, section: str, schema: type[BaseModel]) -> str:
    if section == "all":
        return f"Keys, their defaults and what they mean (a list takes [0], [1], ...):\n{help_text(schema)}"
    if section:
        return section_text(schema, section)
    return f"""{doc}

usage: {command} [--config FILE] [--dry-run] [--print-config] [dotted.key=value ...]

  --config FILE     YAML with the sections below (a path or URI); what the command line says wins
  --dry-run         say what would be read, made anew and used as it is, and what is needed; nothing is changed
  --print-config    print the configuration with where each value comes from (default, preset, FILE:line, command line)
  --help SECTION    the keys of a section, their defaults and what they mean: {command} --help train.zero
  --help all        every key

{UNITS_HELP}

Sections:
{sections_text(schema)}

Exit status: 0 done, 1 failed, 2 a mistake in the configuration or the input, named in the message, 130 interrupted,
143 terminated. The same command resumes a run."""
