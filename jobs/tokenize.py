"""Text to a token store, without training; also as files of other programs.

Curates the sources first, unless the run directory holds the curated text already, then tokenizes and packs it into
`tokens/` there. `tokens.export.formats` writes the same tokens for Megatron-LM, nanoGPT, MosaicML streaming, datatrove
or LitData; `tokens.megatron` makes the store of Megatron-LM's .bin/.idx instead of text.
"""

import importlib.util
import os
import sys

if __name__ == "__main__":
    from raypt.run.job import job
    from raypt.run.tokenize import main

    job(main, __doc__)
else:
    # The directory of a script comes first on the path: there `import tokenize` finds this file. Stand aside.
    _library = os.path.dirname(os.__file__)
    _spec = importlib.util.spec_from_file_location(__name__, os.path.join(_library, "tokenize.py"))
    assert _spec is not None and _spec.loader is not None
    sys.modules[__name__] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[__name__])
