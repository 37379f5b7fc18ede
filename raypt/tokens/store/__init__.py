"""Packed samples on disk: packing, the files of a shard, the store that reads them."""
