"""`raypt tokenize` as a script, for `ray job submit -- python jobs/tokenize.py ...`; see --help."""

import importlib.util
import os
import sys

if __name__ == "__main__":
    from raypt.run.cli import run

    sys.exit(run(["tokenize", *sys.argv[1:]]))
else:
    # The directory of a script comes first on the path: there `import tokenize` finds this file. Stand aside.
    _library = os.path.dirname(os.__file__)
    _spec = importlib.util.spec_from_file_location(__name__, os.path.join(_library, "tokenize.py"))
    assert _spec is not None and _spec.loader is not None
    sys.modules[__name__] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[__name__])
