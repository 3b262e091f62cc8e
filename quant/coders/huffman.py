"""``huffman``: a canonical prefix code of whole bits, the yardstick between none and ANS.

Payload: varint n; n bytes of numbers (alphabet, lengths); the codes, first bit first, zeros
at the end of the last byte.  Codes of one length are in the order of their symbols, shorter
ones before longer; a symbol of length 0 does not occur.  With one symbol there are no codes.
"""

from __future__ import annotations

import heapq

import numba
import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import CorruptError, TruncatedError
from pgolf_codec.quant.coders import alphabet as alphabets
from pgolf_codec.quant.coders.alphabet import Alphabet
from pgolf_codec.quant.coders.numbers import NumberReader, NumberWriter
from pgolf_codec.quant.coders.varint import read_varint, write_varint

MAX_LENGTH = 16
_LENGTH = alphabets.N_CONTEXTS


class Huffman:
    """A code a tensor."""

    summary = "canonical Huffman code"

    def encode(self, values: NDArray[np.int32]) -> bytes:
        alphabet, symbols = Alphabet.of(values)
        lengths = _lengths(np.bincount(symbols.reshape(-1), minlength=alphabet.n_symbols))
        out = NumberWriter(_LENGTH + 1)
        alphabet.write(out)
        out.numbers(np.diff(lengths, prepend=0), _LENGTH)
        head, payload = out.finish(), bytearray()
        write_varint(payload, len(head))
        bits: NDArray[np.uint8] = _encode(symbols.reshape(-1), lengths, _codes(lengths))
        return bytes(payload) + head + bits.tobytes()

    def decode(self, payload: memoryview, shape: tuple[int, int]) -> NDArray[np.int32]:
        n_head, at = read_varint(payload, 0)
        if at + n_head > len(payload):
            raise TruncatedError("huffman: ends within its head")
        source = NumberReader(payload[at : at + n_head], _LENGTH + 1)
        alphabet = Alphabet.read(source, shape[0] * shape[1])
        lengths = np.cumsum(source.numbers(alphabet.n_symbols, _LENGTH))
        source.finish()
        used = lengths[lengths > 0]
        if lengths.min() < 0 or lengths.max() > MAX_LENGTH:
            raise CorruptError("huffman: a length that is not possible")
        if np.sum(2.0 ** -used.astype(np.float64)) != (1.0 if len(used) > 1 else 0.5):
            raise CorruptError("huffman: lengths that make no code")
        symbols = np.empty(shape[0] * shape[1], np.int32)
        data = np.frombuffer(payload[at + n_head :], np.uint8)
        if len(used) == 1:
            symbols[:] = int(lengths.argmax())
            sound = not data.size
        else:
            sound = _decode(symbols, *_table(lengths), data)
        if not sound:
            raise CorruptError("huffman: the stream is damaged or cut short")
        return alphabet.values(symbols).reshape(shape)


HUFFMAN = Huffman()


def _lengths(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each symbol, at most MAX_LENGTH: counts are flattened until they fit."""
    lengths = np.zeros(len(counts), np.int64)
    (used,) = np.nonzero(counts)
    if len(used) == 1:
        lengths[used] = 1
        return lengths
    weights = counts.astype(np.int64)
    while True:
        heap = [(int(weights[s]), int(s), [int(s)]) for s in used]
        heapq.heapify(heap)
        lengths[:] = 0
        while len(heap) > 1:
            one, other = heapq.heappop(heap), heapq.heappop(heap)
            merged = one[2] + other[2]
            lengths[merged] += 1
            heapq.heappush(heap, (one[0] + other[0], one[1], merged))
        if lengths.max() <= MAX_LENGTH:
            return lengths
        weights[used] = weights[used] // 4 + 1


def _codes(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Canonical codes, the first bit the highest of ``length`` bits."""
    codes, code, last = np.zeros(len(lengths), np.int64), 0, 0
    for symbol in np.lexsort((np.arange(len(lengths)), lengths)):
        length = int(lengths[symbol])
        if length:
            code <<= length - last
            codes[symbol] = code
            code, last = code + 1, length
    return codes


def _table(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """For every MAX_LENGTH bits: the symbol they begin with, and its length."""
    symbol_of = np.zeros(1 << MAX_LENGTH, np.int32)
    length_of = np.zeros(1 << MAX_LENGTH, np.int32)
    codes = _codes(lengths)
    for symbol in np.nonzero(lengths)[0]:
        spare = MAX_LENGTH - int(lengths[symbol])
        first = int(codes[symbol]) << spare
        symbol_of[first : first + (1 << spare)] = symbol
        length_of[first : first + (1 << spare)] = lengths[symbol]
    return symbol_of, length_of


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _encode(
    symbols: NDArray[np.int32], lengths: NDArray[np.int64], codes: NDArray[np.int64]
) -> NDArray[np.uint8]:
    n_bits = 0
    for symbol in symbols:
        n_bits += lengths[symbol]
    if codes.max() == 0:  # one symbol
        n_bits = 0
    out = np.zeros((n_bits + 7) // 8, np.uint8)
    if n_bits == 0:
        return out
    held, n_held, at = np.int64(0), 0, 0
    for symbol in symbols:
        held = held << lengths[symbol] | codes[symbol]
        n_held += lengths[symbol]
        while n_held >= 8:
            n_held -= 8
            out[at] = held >> n_held & 255
            at += 1
        held &= 255
    if n_held:
        out[at] = held << (8 - n_held) & 255
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _decode(
    symbols: NDArray[np.int32],
    symbol_of: NDArray[np.int32],
    length_of: NDArray[np.int32],
    data: NDArray[np.uint8],
) -> bool:
    held, n_held, at, n_read = np.int64(0), 0, 0, 0
    for i in range(symbols.size):
        while n_held < MAX_LENGTH:
            held = (held << 8 | (data[at] if at < data.size else 0)) & 0xFFFFFFFF
            n_held += 8
            at += 1
        point = held >> (n_held - MAX_LENGTH) & ((1 << MAX_LENGTH) - 1)
        symbols[i] = symbol_of[point]
        n_held -= length_of[point]
        n_read += length_of[point]
        if n_read > 8 * data.size:
            return False
    return (n_read + 7) // 8 == data.size
