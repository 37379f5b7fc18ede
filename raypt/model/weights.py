"""Hugging Face's weight files, safetensors, read and written a part at a time: no more of a model is in memory than one
block, whatever its size.

    u64 length of the header, little-endian
    header      JSON: name -> {dtype, shape, data_offsets}, offsets counted from the end of the header
    tensors     end to end, C order
"""

import json
import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raypt import storage
from raypt.errors import UserError

ONE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d{5,}-of-\d{5,}\.safetensors")
BLOCK = 64 << 20
"""Bytes of a tensor that are in memory at a time."""
_LONGEST_HEADER = 100 << 20
"""What the format allows."""
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def is_weight_file(name: str) -> bool:
    """Whether a file of this name is one of those that hold a model's weights."""
    return name in (ONE_FILE, INDEX) or _SHARD.fullmatch(name) is not None


@dataclass(frozen=True)
class Entry:
    """A tensor in a file."""

    file: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    """Of its bytes, in the file."""

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


class WeightFiles:
    """The weights of a directory: one file, or several with an index. Only headers are read before a tensor is asked
    for.

    Raises:
        UserError: there are no weights, files of two models, or files that are damaged; the message names them.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        sizes = storage.list_sizes(uri)
        if ONE_FILE in sizes and INDEX in sizes:
            raise UserError(
                f"{uri}: both {ONE_FILE} and {INDEX} are there, of two models; which is loaded differs from program to "
                "program: delete those of the older one"
            )
        files = [ONE_FILE]
        if INDEX in sizes:
            files = sorted(set(self._index().values()))
        for file in files:
            if file not in sizes:
                raise UserError(f"{storage.join(uri, file)}: no such file; fetch it again")
        headers = storage.in_parallel(lambda file: self._header(file, sizes[file]), files)
        self.entries: dict[str, Entry] = {}
        for header in headers:
            self.entries |= header

    def _index(self) -> dict[str, str]:
        path = storage.join(self.uri, INDEX)
        try:
            return {str(name): str(file) for name, file in storage.read_json(path)["weight_map"].items()}
        except (KeyError, TypeError, AttributeError):
            raise UserError(f"{path}: it has no weight_map of names to files; fetch it again") from None

    def _header(self, file: str, size: int) -> dict[str, Entry]:
        path = storage.join(self.uri, file)
        try:
            (length,) = struct.unpack("<Q", storage.read_range(path, 0, 8))
            if length > min(_LONGEST_HEADER, size - 8):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header: dict[str, Any] = json.loads(storage.read_range(path, 8, length))
            header.pop("__metadata__", None)
            return {name: _entry(file, entry, 8 + length, size) for name, entry in header.items()}
        except (struct.error, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
            raise UserError(f"{path}: not a readable safetensors file ({e}); fetch it again") from None

    def read(self, name: str, start: int, numel: int) -> Tensor:
        """Elements [start, start + numel) of a flattened tensor, in the type they are stored in."""
        entry = self.entries[name]
        path = storage.join(self.uri, entry.file)
        at, length = entry.start + start * entry.dtype.itemsize, numel * entry.dtype.itemsize
        data = bytearray(storage.read_range(path, at, length))
        if len(data) != length:
            raise UserError(f"{path}: ends early in {name}; fetch it again")
        return torch.frombuffer(data, dtype=entry.dtype) if data else torch.empty(0, dtype=entry.dtype)

    def read_into(self, name: str, out: Tensor) -> None:
        """Fill `out`, contiguous and of the tensor's shape, block by block and whatever its type and device."""
        entry, flat = self.entries[name], out.view(-1)
        for start, numel in runs(entry.numel, BLOCK // entry.dtype.itemsize):
            flat[start : start + numel].copy_(self.read(name, start, numel))


def _entry(file: str, entry: Mapping[str, Any], base: int, size: int) -> Entry:
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"weights of type {entry['dtype']}; raypt reads {', '.join(DTYPES)}")
    out = Entry(file, DTYPES[entry["dtype"]], tuple(map(int, entry["shape"])), base + int(entry["data_offsets"][0]))
    end = base + int(entry["data_offsets"][1])
    if out.start < base or out.start + out.numel * out.dtype.itemsize != end or end > size:
        raise ValueError(f"a tensor at bytes {out.start} to {end} of {size}")
    return out


def runs(numel: int, most: int) -> Iterator[tuple[int, int]]:
    """[start, length) runs of at most `most` elements that make up `numel`."""
    return ((start, min(most, numel - start)) for start in range(0, numel, most))


def clear_weights(uri: str) -> None:
    """Delete the weight files of a directory."""
    storage.remove_files(uri, filter(is_weight_file, storage.listdir(uri)))


def write_weights(
    uri: str,
    shapes: Mapping[str, Sequence[int]],
    values: Callable[[str], Iterator[Tensor]],
    *,
    dtype: torch.dtype,
    shard_bytes: int,
) -> None:
    """Write the tensors to the directory `uri`, in several files with an index where they are more than `shard_bytes`.

    `values(name)` gives a tensor's elements, flattened, in pieces of any type; they are asked for in the order of
    `shapes` and written as they come. The directory has no weights of another (`clear_weights`).
    """
    shards: list[list[str]] = [[]]
    filled = 0
    for name, shape in shapes.items():
        nbytes = math.prod(shape) * dtype.itemsize
        if shards[-1] and filled + nbytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += nbytes
    files = [ONE_FILE]
    if len(shards) > 1:
        files = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    for file, names in zip(files, shards, strict=True):
        _write_file(storage.join(uri, file), {name: shapes[name] for name in names}, values, dtype)
    if len(shards) > 1:
        total = sum(math.prod(shape) for shape in shapes.values()) * dtype.itemsize
        where = {name: file for file, names in zip(files, shards, strict=True) for name in names}
        storage.write_json(storage.join(uri, INDEX), {"metadata": {"total_size": total}, "weight_map": where})


def _write_file(
    path: str, shapes: Mapping[str, Sequence[int]], values: Callable[[str], Iterator[Tensor]], dtype: torch.dtype
) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with storage.atomic_write(path) as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            written = 0
            for part in values(name):
                flat = part.detach().to("cpu", dtype).contiguous().view(-1)
                f.write(flat.view(torch.uint8).numpy().data)
                written += flat.numel()
            assert written == math.prod(shape), f"{written} elements of {name}, whose shape is {tuple(shape)}"


def in_blocks(tensor: Tensor) -> Iterator[Tensor]:
    """A tensor in memory, as `write_weights` takes it."""
    flat = tensor.detach().reshape(-1)
    for start, numel in runs(flat.numel(), BLOCK // flat.element_size()):
        yield flat[start : start + numel]
