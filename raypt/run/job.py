"""The frame every job runs in: arguments, configuration, exit status."""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from raypt.config_help import help_text
from raypt.config_io import load
from raypt.errors import UserError
from raypt.run.config import RunConfig

log = logging.getLogger("raypt")


def job(main: Callable[[RunConfig], None], doc: str | None, argv: list[str] | None = None) -> None:
    """Run a job script: parse `[--config FILE] [dotted.key=value ...]`, call `main`, exit with 0, 1 or 2.

    Exit status 0: done. 1: failed (with a traceback). 2: a mistake in the configuration or the input, named in the
    message.
    """
    arguments = sys.argv[1:] if argv is None else argv
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s", datefmt="%H:%M:%S")
    log.setLevel(os.environ.get("RAYPT_LOG_LEVEL", "INFO"))
    if any(a in ("-h", "--help") for a in arguments):
        script = Path(sys.argv[0]).name
        print(f"{(doc or '').strip()}\n\nusage: python jobs/{script} [--config FILE] [dotted.key=value ...]\n")
        print("Keys, their defaults and what they mean (a list takes [0], [1], ...):")
        print(help_text(RunConfig))
        sys.exit(0)
    try:
        config_uri, overrides = _split(arguments)
        main(load(RunConfig, config_uri, overrides))
    except UserError as e:
        print(f"\n{Path(sys.argv[0]).name}: {e}", file=sys.stderr, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        sys.exit(130)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def _split(arguments: list[str]) -> tuple[str | None, list[str]]:
    config_uri, overrides = None, []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--config":
            if not rest:
                raise UserError("--config needs a file")
            config_uri = rest.pop(0)
        elif argument.startswith("--config="):
            config_uri = argument.removeprefix("--config=")
        elif argument.startswith("-"):
            raise UserError(f"unknown option {argument}: options are --config FILE, --help and dotted.key=value")
        else:
            overrides.append(argument)
    return config_uri, overrides
