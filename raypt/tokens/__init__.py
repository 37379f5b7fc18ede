"""Tokenizers, packing, the sample clock, the token store and the stream to the trainer.

`tokenizer` and `trainer` make ids of text; `packing` makes fixed-length samples of ids; `store` keeps them in files;
`clock` says which sample is the g-th of the run; `stream` brings it to Ray Train. Only `stream` needs Ray.
"""
