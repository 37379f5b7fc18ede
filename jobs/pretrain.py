"""Raw text to a trained LLaMA, in one job.

Reads the sources, curates and deduplicates them, trains a tokenizer, and trains a LLaMA on the packed stream while the
rest of the text is still being tokenized. Everything is under one run directory; the same command resumes.
"""

from raypt.run.job import job
from raypt.run.pretrain import main

if __name__ == "__main__":
    job(main, __doc__)
