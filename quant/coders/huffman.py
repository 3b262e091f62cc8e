"""``huffman``: a canonical prefix code of whole bits, the yardstick between none and ANS.

Payload: varint n; n bytes of numbers (alphabet, lengths); the codes, first bit first, zeros
at the end of the last byte.  Codes of one length are in the order of their symbols, shorter
ones before longer; a symbol of length 0 does not occur.  With one symbol there are no codes.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.compiled import Kernel
from pgolf_codec.errors import CorruptError, TruncatedError
from pgolf_codec.quant.coders import alphabet as alphabets
from pgolf_codec.quant.coders.alphabet import Alphabet
from pgolf_codec.quant.coders.machine_code import MAX_LENGTH, STATIC_SOURCES
from pgolf_codec.quant.coders.numbers import NumberReader, NumberWriter
from pgolf_codec.quant.coders.varint import read_varint, write_varint

_LENGTH = alphabets.N_CONTEXTS
_encode = Kernel("pgolf_codec.quant.coders.bits_kernel", "encode_huffman", STATIC_SOURCES)
_decode = Kernel("pgolf_codec.quant.coders.bits_kernel", "decode_huffman", STATIC_SOURCES)


class Huffman:
    """A code a tensor."""

    summary = "canonical Huffman code"

    def encode(self, values: NDArray[np.int32]) -> bytes:
        alphabet, symbols = Alphabet.of(values)
        counts = np.bincount(symbols.reshape(-1), minlength=alphabet.n_symbols)
        lengths = _lengths(counts)
        out = NumberWriter(_LENGTH + 1)
        alphabet.write(out)
        out.numbers(np.diff(lengths, prepend=0), _LENGTH)
        head, payload = out.finish(), bytearray()
        write_varint(payload, len(head))
        n_bits = int(counts @ lengths) if np.count_nonzero(counts) > 1 else 0
        bits = np.zeros((n_bits + 7) // 8, np.uint8)
        if n_bits:
            _encode(symbols.reshape(-1), lengths, _codes(lengths), bits)
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
        data = np.frombuffer(payload[at + n_head :], np.uint8).copy()
        if len(used) == 1:
            symbols[:] = int(lengths.argmax())
            sound = not data.size
        else:
            sound = bool(_decode(symbols, *_table(lengths), data))
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
