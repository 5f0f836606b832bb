"""How objects that hold tensors and arrays cross from one process to another.

``pickle.dumps(tensor)`` is refused: files are never unpickled. Between a process and its own workers it is another
matter, so the pickler of ``multiprocessing`` alone learns tensors here. A message's arrays travel beside its pickle:
small ones in the message, large ones in one anonymous memory file (``memfd_create``) whose descriptor is passed along.
Such a file has no name, so that nothing is left in /dev/shm however a process ends; the receiver maps it and makes its
arrays on it, without a copy.
"""

from __future__ import annotations

import copyreg
import io
import mmap
import os
import pickle
import socket
import struct
from collections import ChainMap
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._tensor import Tensor
from fastnet.nn.parameter import Buffer, Parameter

_ALIGNMENT = 64  # of every array in a message: a cache line, and more than any kernel asks for
_IN_MESSAGE = 16 * 1024  # bytes of arrays that are cheaper to copy through the pipe than to map


def _reduce(t: Tensor) -> Any:
    if not t.is_leaf:
        raise RuntimeError(
            "a non-leaf tensor that requires a gradient cannot be sent to another process, where its history is "
            "unknown: send tensor.detach()"
        )
    if t.is_cuda:
        raise RuntimeError("a tensor on a GPU cannot be sent to another process: send tensor.cpu()")
    array = t._data if t._data.flags.c_contiguous else t._data.copy(order="C")
    # As bytes: bfloat16 is no type of the buffer protocol.
    return _rebuild, (type(t), array.reshape(-1).view(np.uint8), t.dtype.name, array.shape, t.requires_grad)


def _rebuild(cls: type, raw: np.ndarray, dtype: str, shape: tuple[int, ...], requires_grad: bool) -> Tensor:
    t: Any = object.__new__(cls)
    t._initialise(raw.view(next(d for d in _dtypes.ALL if d.name == dtype).numpy).reshape(shape))
    t._requires_grad = requires_grad
    if cls is Buffer:
        t.persistent = True
    return t


for _class in (Tensor, Parameter, Buffer):
    ForkingPickler.register(_class, _reduce)


class _Pickler(ForkingPickler):
    """multiprocessing's pickler, with arrays out of band."""

    def __init__(self, file: Any, buffers: list[pickle.PickleBuffer]):
        pickle.Pickler.__init__(self, file, 5, buffer_callback=buffers.append)
        self.dispatch_table = ChainMap(self._extra_reducers, copyreg.dispatch_table)  # type: ignore[attr-defined]


def send(connection: Any, head: Any, body: Any) -> None:
    """Send a small picklable head and any body, whole or not at all if the body cannot be pickled."""
    buffers: list[pickle.PickleBuffer] = []
    stream = io.BytesIO()
    _Pickler(stream, buffers).dump(body)
    raws = [b.raw() for b in buffers]
    offsets, size = [], 0
    for raw in raws:
        offsets.append((size, raw.nbytes))
        size += -(-raw.nbytes // _ALIGNMENT) * _ALIGNMENT
    by_file = size > _IN_MESSAGE and hasattr(os, "memfd_create")
    front = pickle.dumps((head, offsets, size, by_file, stream.tell()))
    if not by_file:
        message = bytearray(size)
        for (start, n), raw in zip(offsets, raws, strict=True):
            message[start : start + n] = raw
        connection.send_bytes(b"".join((message, stream.getbuffer(), front, struct.pack("<Q", len(front)))))
        return
    file = os.memfd_create("fastnet-batch")
    try:
        os.ftruncate(file, size)
        for (start, _), raw in zip(offsets, raws, strict=True):
            while raw.nbytes:
                written = os.pwrite(file, raw, start)
                raw, start = raw[written:], start + written
        connection.send_bytes(b"".join((stream.getbuffer(), front, struct.pack("<Q", len(front)))))
        with socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            socket.send_fds(channel, [b"\0"], [file])
    finally:
        os.close(file)


def receive(connection: Any) -> tuple[Any, Any]:
    """The next message's head, and a function that gives its body (and may raise what unpickling raises).

    Raises:
        EOFError: the other side is gone.
    """
    message = memoryview(bytearray(connection.recv_bytes()))
    end = len(message) - 8
    (length,) = struct.unpack("<Q", message[end:])
    head, offsets, size, by_file, stream_length = pickle.loads(message[end - length : end])
    arrays: Any = message[:size]
    if by_file:
        with socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            _, files, _, _ = socket.recv_fds(channel, 1, 1)
        if not files:
            raise EOFError
        try:
            arrays = memoryview(mmap.mmap(files[0], size))
        finally:
            os.close(files[0])
    begin = end - length - stream_length
    stream = message[begin : begin + stream_length]
    return head, lambda: pickle.loads(stream, buffers=[arrays[start : start + n] for start, n in offsets])
