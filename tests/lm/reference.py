"""docs/NUMERICS.md in plain Python: slow, no numpy, none of the package's code.

:class:`Model` reads a ``.pglm``; :class:`Stream` gives the weights of one stream.
Names are those of the document.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from bisect import bisect_right
from fractions import Fraction
from functools import cache
from typing import Any

# Bits of the fixed-point table below.
_DIGITS = 160


def rounded(value: int) -> int:
    """The nearest integer to value / 2**_DIGITS."""
    return (value + (1 << (_DIGITS - 1))) >> _DIGITS


@cache
def exact_cosine() -> list[int]:
    """2**14 cos(2 pi i / 65536), times 2**_DIGITS, to within 2**20 units."""
    one = 1 << _DIGITS

    def arctan(n: int) -> int:  # of 1 / n
        total, power, k = 0, one // n, 0
        while power:
            total += (-power if k % 2 else power) // (2 * k + 1)
            power //= n * n
            k += 1
        return total

    pi = 4 * (4 * arctan(5) - arctan(239))
    angle = 2 * pi >> 16
    cos, sin, term, k = 0, 0, one, 0
    while term:
        sign = -1 if k % 4 > 1 else 1
        if k % 2:
            sin += sign * term
        else:
            cos += sign * term
        k += 1
        term = term * angle // (k << _DIGITS)
    c, s, quarter = one, 0, []
    for _ in range(1 << 14):
        quarter.append(c << 14)
        c, s = (c * cos - s * sin) >> _DIGITS, (c * sin + s * cos) >> _DIGITS
    half = [*quarter, 0, *(-c for c in reversed(quarter[1:]))]
    return [*half, *(-c for c in half)]


@cache
def exact_sigmoid() -> list[int]:
    """2**14 / (1 + exp(-i/1024)), times 2**_DIGITS, to within 2**20 units."""
    one = 1 << _DIGITS
    step, term, k = one, one, 0  # exp(-1/1024)
    while term:
        k += 1
        term = -term // (1024 * k) if k % 2 else -(term // (1024 * k))
        step += term
        if abs(term) <= 1:
            break
    out, power_of_e = [], one
    for _ in range(8192):
        out.append((one << (14 + _DIGITS)) // (one + power_of_e))
        power_of_e = power_of_e * step >> _DIGITS
    return out


def table(exact: list[int], crc: int) -> list[int]:
    out = [rounded(v) for v in exact]
    assert zlib.crc32(struct.pack(f"<{len(out)}i", *out)) == crc
    return out


COS = table(exact_cosine(), 0x1886CEDF)
SIGMOID = table(exact_sigmoid(), 0x1B5E7224)


def sat(a: int, limit: int) -> int:
    return min(max(a, -limit), limit)


def scale(a: int, m: int) -> int:
    return (a * m + 2**31) >> 32


def product(matrix: list[list[int]], y: list[int]) -> list[int]:
    out = [sum(q * v for q, v in zip(row, y, strict=True)) for row in matrix]
    assert all(abs(v) < 2**31 for v in out)  # or 32 bits would not do
    return out


def product_by_bytes(matrix: list[list[int]], x: list[int], d: int) -> list[int]:
    a = max(abs(v) for v in x)
    r = 127 * 2**24 // max(a, 1)
    q = [(v * r + 2**23) >> 24 for v in x]
    assert all(abs(v) <= 127 for v in q)
    factor = a * 2**25 // (127 * d)
    assert factor < 2**21
    out = [(v * factor + 2**11) >> 12 for v in product(matrix, q)]
    assert all(abs(v) < 2**31 for v in out)
    return out


def rms(x: list[int]) -> int:
    return max(1, math.isqrt(2**8 * sum(v * v for v in x) // len(x)))


def norm(x: list[int]) -> list[int]:
    root = rms(x)
    return [sat((v * (2**40 // root) + 2**26) >> 27, 32767) for v in x]


def power(d: int) -> int:
    f = d % 2**10
    return 2**16 - ((f * (44014 - ((f * 11246) >> 10))) >> 10)


def rotate(y: list[int], t: int, phases: list[int]) -> list[int]:
    y, half = list(y), len(phases)
    for i, phase in enumerate(phases):
        a = t * phase % 2**16
        c, s = COS[a], COS[(a - 2**14) % 2**16]
        u, w = y[i], y[i + half]
        y[i], y[i + half] = (u * c - w * s + 2**13) >> 14, (u * s + w * c + 2**13) >> 14
    return y


def limit(n: int) -> int:
    return min(32767, (2**31 - 1) // (128 * n))


def output_bits(n: int) -> int:
    """Fraction bits of attention's output beyond those of the values, of n = H K: b."""
    return min(6, (limit(n) // 127).bit_length() - 1)


def without(o: list[int], v: list[int], most: int) -> list[int]:
    """o without its part along v."""
    along = sum(a * b for a, b in zip(o, v, strict=True))
    inverse = 2**32 // max(sum(b * b for b in v), 1)
    return [sat(a - ((along * b * inverse + 2**31) >> 32), most) for a, b in zip(o, v, strict=True)]


def float32(v: float) -> float:
    """Rounded to binary32; behind one binary64 operation on binary32 numbers this is exact."""
    return float(struct.unpack("<f", struct.pack("<f", v))[0])


OFF: dict[str, Any] = {
    "activation": "leaky_relu2",
    "tied": True,
    "unet": False,
    "passes": [],
    "parallel_layers": [],
    "value_layers": [],
    "value_dim": 0,
    "xsa_layers": [],
    "attention_gate": False,
    "embedding_columns": False,
}
"""What a configuration need not tell."""


def mixed(x: list[int], y: list[int], first: list[int], second: list[int]) -> list[int]:
    return [
        sat((u * a + v * b + 2**27) >> 28, 2**21 - 1)
        for u, v, a, b in zip(x, y, first, second, strict=True)
    ]


class Model:
    """Configuration, tensors as nested lists (float16 as fractions), bytes of each token."""

    def __init__(self, blob: bytes) -> None:
        magic, version, numerics, head_size = struct.unpack_from("<8sHHI", blob)
        assert (magic, version, numerics) == (b"\x89PGLM\r\n\x1a", 1, 2)
        at = 16 + head_size
        assert zlib.crc32(blob[:at]) == struct.unpack_from("<I", blob, at)[0]
        head = json.loads(blob[16:at])
        at += 4
        self.sections: dict[str, tuple[str, bytes]] = {}
        for name, coding, size, crc in head["sections"]:
            self.sections[name] = coding, blob[at : at + size]
            assert zlib.crc32(blob[at : at + size]) == crc
            at += size
        self.fingerprint = blob[at:]
        assert hashlib.sha256(blob[:at]).digest() == self.fingerprint
        self.config: dict[str, Any] = {"bigram_buckets": 0, "softcap": 30, **OFF, **head["config"]}
        self.order = self.config["passes"] or list(range(self.config["n_layers"]))
        c = self.config
        self.tensors: dict[str, Any] = {
            name: self._read(name, *section)
            for name, section in self.sections.items()
            if name != "tokenizer"
        }
        inner = {"qkv": c["d_model"], "up": c["d_model"], "embedding": c["d_model"]}
        inner |= {"wo": c["n_heads"] * c["d_head"], "down": c["d_hidden"], "mix": c["d_model"]}
        inner |= {"bigram": c.get("bigram_dim", 0), "bigram_proj": c.get("bigram_dim", 0)}
        inner |= {"head": c["d_model"], "skips": c["d_model"], "gate": c["d_model"]}
        inner |= {"value_table": c["value_dim"], "value_proj": c["value_dim"]}
        for name, flat in self.tensors.items():
            columns = inner.get(name.removesuffix(".q").split(".")[-1])
            if columns and not name.endswith(".s"):
                rows = [flat[i : i + columns] for i in range(0, len(flat), columns)]
                self.tensors[name] = rows

    def _read(self, name: str, coding: str, data: bytes) -> list[Any]:
        if coding == "ans":
            return read_ans(data, self._items(name))
        if name.endswith(".q"):
            return list(struct.unpack(f"<{len(data)}b", data))
        if name == "rope_phases":
            return list(struct.unpack(f"<{len(data) // 2}H", data))
        if name.endswith((".s", ".mix")) or name in ("smear", "skips", "embedding_columns"):
            return [Fraction(v) for v in struct.unpack(f"<{len(data) // 2}e", data)]
        return list(struct.unpack(f"<{len(data) // 4}i", data))

    def _items(self, name: str) -> int:
        c = self.config
        d, heads = c["d_model"], c["n_heads"] * c["d_head"]
        rows = {
            "embedding": c["vocab_size"] * d,
            "bigram": c["bigram_buckets"] * c.get("bigram_dim", 0),
            "bigram_proj": d * c.get("bigram_dim", 0),
            "head": c["vocab_size"] * d,
            "value_table": c["vocab_size"] * c["value_dim"],
            "value_proj": c["n_kv_heads"] * c["d_head"] * c["value_dim"],
            "gate": c["n_heads"] * d,
            "qkv": (heads + 2 * c["n_kv_heads"] * c["d_head"]) * d,
            "wo": d * heads,
            "up": c["d_hidden"] * d,
            "down": c["d_hidden"] * d,
        }
        return int(rows[name.split(".")[-2]])

    def multipliers(self, name: str, f: int) -> list[int]:
        return [math.floor(s * Fraction(2) ** (32 + f)) for s in self.tensors[name]]


def read_ans(data: bytes, n_items: int) -> list[int]:
    lowest, last = struct.unpack_from("<bB", data)
    n = last + 1
    q = [f + 1 / 64 for f in struct.unpack_from(f"<{n}H", data, 2)]
    if n == 1:
        return [lowest] * n_items
    factor = (2**24 - n) / sum(q)
    c = [i + int(sum(q[:i]) * factor) for i in range(n)] + [2**24]
    words = list(struct.unpack(f"<{(len(data) - 2 - 2 * n) // 4}I", data[2 + 2 * n :]))
    state = words.pop()
    if words:
        state = state << 32 | words.pop()
    out = []
    for _ in range(n_items):
        u = state % 2**24
        i = bisect_right(c, u) - 1
        out.append(lowest + i)
        state = (state >> 24) * (c[i + 1] - c[i]) + u - c[i]
        if state < 2**32 and words:
            state = state << 32 | words.pop()
    assert state == 0
    assert not words
    return out


class Stream:
    """One stream; ``weights(None)`` first, then with the token that was coded last."""

    def __init__(self, model: Model) -> None:
        self.model, c = model, model.config
        self.t, self.p = 0, 0
        self.e = [0] * c["d_model"]
        groups = range(c["n_kv_heads"])
        self.keys: Any = [[[] for _ in groups] for _ in model.order]
        self.values: Any = [[[] for _ in groups] for _ in model.order]
        self.added: list[int] = []
        self.multipliers = cache(model.multipliers)

    def weights(self, token: int | None) -> list[int]:
        i = 1 if token is None else token
        c, tensors, m = self.model.config, self.model.tensors, self.multipliers
        residual = tensors["residual_frac"][0]
        columns = m("embedding_columns", -21) if c["embedding_columns"] else [2**8] * c["d_model"]
        y = norm([q * m for q, m in zip(tensors["embedding.q"][i], columns, strict=True)])
        up = residual - 9
        b = [v << up if up >= 0 else v >> -up for v in y]
        smear = m("smear", residual - 9)
        x0 = self._add(b, self.e, smear)
        if c["bigram_buckets"]:
            j = (40503 * self.p + 30011 * i) % 2**31 % c["bigram_buckets"]
            row, most = tensors["bigram.q"][j], limit(c["bigram_dim"])
            v = [sat(scale(q, s), most) for q, s in zip(row, m("bigram.s", 9), strict=True)]
            proj = m("bigram_proj.s", residual - 9)
            x0 = self._add(x0, product(tensors["bigram_proj.q"], v), proj)
        if c["value_layers"]:
            row, most = tensors["value_table.q"][i], limit(c["value_dim"])
            v = [sat(scale(q, s), most) for q, s in zip(row, m("value_table.s", 9), strict=True)]
            self.added = product(tensors["value_proj.q"], v)
        self.e, self.p = y, i
        x, kept = x0, []
        half = len(self.model.order) // 2 if c["unet"] else 0
        for j, layer in enumerate(self.model.order):
            if half <= j < 2 * half:
                skip = [math.floor(s * 2**28) for s in tensors["skips"][j - half]]
                x = mixed(x, kept[2 * half - 1 - j], [2**28] * len(x), skip)
            x = self._layer(j, layer, x, x0)
            if j < half:
                kept.append(x)
        y = norm(x)
        if c["embedding_columns"]:
            columns, most = m("embedding_columns", 0), limit(c["d_model"])
            y = [sat(scale(v, s), most) for v, s in zip(y, columns, strict=True)]
        self.t += 1
        head = "embedding" if c["tied"] else "head"
        return self._symbol_weights(product(tensors[f"{head}.q"], y), tensors[f"{head}.s"])

    def _add(self, x: list[int], a: list[int], m: list[int]) -> list[int]:
        return [sat(u + scale(v, s), 2**21 - 1) for u, v, s in zip(x, a, m, strict=True)]

    def _product(self, x: list[int], name: str, y: list[int], frac: int) -> list[int]:
        """x plus a product by bytes of what has ``frac`` fraction bits."""
        tensors = self.model.tensors
        m = self.multipliers(f"{name}.s", tensors["residual_frac"][0] - frac)
        return self._add(x, product_by_bytes(tensors[f"{name}.q"], y, 2**13), m)

    def _layer(self, j: int, layer: int, x: list[int], x0: list[int]) -> list[int]:
        c, tensors, name = self.model.config, self.model.tensors, f"blocks.{layer}"
        first, second = tensors[f"{name}.mix"]
        x = mixed(x, x0, *([math.floor(a * 2**28) for a in row] for row in (first, second)))
        value_frac, up_frac = tensors["value_frac"][layer], tensors["up_frac"][layer]
        bits = output_bits(c["n_heads"] * c["d_head"])
        o = self._attention(j, layer, x, value_frac, bits)
        before = x
        x = self._product(x, f"{name}.wo", o, value_frac + bits)
        y = before if layer in c["parallel_layers"] else x
        a = product_by_bytes(tensors[f"{name}.up.q"], y, rms(y))
        m = self.multipliers(f"{name}.up.s", up_frac - 9)
        shift, hidden = tensors["square_shift"][layer], []
        for v, s in zip(a, m, strict=True):
            u = sat(scale(v, s), 32767)
            if u < 0:
                u = u >> 1 if c["activation"] == "leaky_relu2" else 0
            hidden.append(min((u * u + 2**shift // 2) >> shift, limit(c["d_hidden"])))
        return self._product(x, f"{name}.down", hidden, 2 * up_frac - shift)

    def _attention(self, j: int, layer: int, x: list[int], value_frac: int, bits: int) -> list[int]:
        c, tensors, name = self.model.config, self.model.tensors, f"blocks.{layer}"
        n, heads, groups = c["d_head"], c["n_heads"], c["n_kv_heads"]
        a = product_by_bytes(tensors[f"{name}.qkv.q"], x, rms(x))
        m = self.multipliers(f"{name}.qkv.s", 1)

        def head(i: int) -> list[int]:
            part = slice(i * n, (i + 1) * n)
            z = [sat(scale(v, s), 2**21 - 1) for v, s in zip(a[part], m[part], strict=True)]
            rotated = rotate(norm(z), self.t, tensors["rope_phases"])
            return [sat((v + 2**4) >> 5, 127) for v in rotated]

        value_m = self.multipliers(f"{name}.qkv.s", value_frac - 9)
        for group in range(groups):
            part = slice((heads + groups + group) * n, (heads + groups + group + 1) * n)
            v = [sat(scale(v, s), 2**21 - 1) for v, s in zip(a[part], value_m[part], strict=True)]
            if layer in c["value_layers"]:
                own = slice(group * n, (group + 1) * n)
                own_m = self.multipliers(f"{name}.value.s", value_frac - 9)[own]
                more = zip(self.added[own], own_m, strict=True)
                v = [u + sat(scale(e, s), 2**21 - 1) for u, (e, s) in zip(v, more, strict=True)]
            v = [sat(u, 127) for u in v]
            for ring, new in ((self.keys, head(heads + group)), (self.values, v)):
                ring[j][group] = [*ring[j][group], new][-c["windows"][layer] :]
        out: list[int] = []
        for h in range(heads):
            group = h * groups // heads
            keys, values = self.keys[j][group], self.values[j][group]
            q, gain = head(h), tensors[f"{name}.gain"][h]
            z = [(score * gain + 2**17) >> 18 for score in product(keys, q)]
            assert all(abs(v) < 2**30 for v in z)
            top, w = max(z), []
            for v in z:
                d = top - v
                i = min(d >> 10, 15)
                w.append((255 * power(d) + 2 ** (15 + i)) >> (16 + i))
            inverse = 2 ** (32 + bits) // sum(w)
            sums = product([list(column) for column in zip(*values, strict=True)], w)
            o = [(v * inverse + 2**31) >> 32 for v in sums]
            assert all(abs(v) <= limit(heads * n) for v in o)
            if layer in c["xsa_layers"]:
                o = without(o, values[-1], limit(heads * n))
            if c["attention_gate"]:
                o = [(v * self._gate(layer, h, x) + 2**13) >> 14 for v in o]
            out += o
        return out

    def _gate(self, layer: int, h: int, x: list[int]) -> int:
        name = f"blocks.{layer}.gate"
        (a,) = product_by_bytes([self.model.tensors[f"{name}.q"][h]], x, rms(x))
        z = scale(a, self.multipliers(f"{name}.s", 1)[h]) + self.model.tensors[f"{name}_bias"][h]
        gate = SIGMOID[min(abs(z), 8191)]
        return gate if z >= 0 else 2**14 - gate

    def _symbol_weights(self, a: list[int], scales: list[Fraction]) -> list[int]:
        c = float(self.model.config["softcap"])
        top = float32((1024 * 1.4426950408889634) * c)
        f, logits = float32, []
        for v, s in zip(a, scales, strict=True):
            inverse = f((float(s) * 2.0**-9) / c)
            x = min(max(f(f(float(v)) * inverse), -8.0), 8.0)
            y = f(x * x)
            n = f(x * f(135135 + f(y * f(17325 + f(y * f(378 + y))))))
            d = f(135135 + f(y * f(62370 + f(y * f(3150 + f(y * 28))))))
            logits.append(int(f(min(max(f(n / d), -1.0), 1.0) * top)))
        most = max(logits)
        return [(2**8 * power(most - v)) >> min((most - v) >> 10, 31) for v in logits]
