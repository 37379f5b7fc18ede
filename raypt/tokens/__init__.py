"""Tokenizers, packing, the token store, the sample clock and the stream to the trainer.

From curated text to ids: `parts` reads the curated files; `sample`, `trainer`, `loaders` and `sentencepiece` give a
`tokenizer`; `byte_level`, `words` and `fast_bpe` make it fast; `fertility` says how well it fits.
From ids to samples on disk: `packing`, `store`, `shards`, and `producer`, which fills the store in the background.
From the store to the trainer: `order`, `mixture` and `clock` say which sample is the g-th of the run, `upsampling` and
`shares` how often a group is drawn, `plan` fixes and fingerprints all that this depends on, `reader` reads it, `fetch`
and `stream` bring it to Ray Train.

Only `producer` (through `raypt.tasks`) and `stream` touch Ray; the store and its readers work without it.
"""
