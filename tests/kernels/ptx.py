"""PTX on a CPU, instruction by instruction: what Triton's interpreter knows nothing of.

Inline assembly, the lanes that values lie in, and asynchronous copies are in compiled code only.
A block's threads are arrays that go through it in step. Refused are addresses that are not aligned
or in no tensor, and branches that threads do not take together; noted are copies that a block ends
without waiting for, and words that a lane reads or writes after another lane wrote or read them,
with no barrier in between.
"""

import ctypes
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

WORDS: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
KINDS: dict[str, Any] = {
    f"{kind}{bits}": np.dtype(f"{letter}{bits // 8}")
    for kind, letter in (("b", "u"), ("u", "u"), ("s", "i"), ("f", "f"))
    for bits in (8, 16, 32, 64)
    if (kind, bits) != ("f", 8)
}
KINDS["bf16"] = np.dtype("u2")
COMPARE: dict[str, Any] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip
COMPUTE: dict[str, Callable[..., Any]] = {
    "mov": lambda a: a,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "mad": lambda a, b, c: a * b + c,
    "fma": lambda a, b, c: (a.astype(np.float64) * b + c).astype(a.dtype),
    "div": lambda a, b: a / b if a.dtype.kind == "f" else np.trunc(a / b),
    "rem": np.fmod,
    "min": np.fmin,
    "max": np.fmax,
    "abs": np.abs,
    "neg": np.negative,
    "copysign": lambda a, b: np.copysign(b, a),
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "ex2": lambda a: np.exp2(a.astype(np.float64)),
    "rcp": lambda a: 1 / a,
}
NOTHING = {"fence", "griddepcontrol", "prefetch"}


class Line(NamedTuple):
    """An instruction."""

    text: str
    guard: str | None
    holds: bool  # what the guard must be
    kinds: list[str]  # the operation's name and what qualifies it
    operands: list[str]


class Program:
    """A kernel, read."""

    def __init__(self, ptx: str) -> None:
        head, _, body = ptx[ptx.index(".visible .entry") :].partition(")")
        self.parameters = re.findall(r"\.param [^,]*?(\w+)(?=,|\n|$)", head)
        self.lines: list[Line] = []
        self.labels: dict[str, int] = {}
        self.shared = 0
        self._scopes: list[dict[str, str]] = []
        body = re.sub(r"//[^\n]*|^\s*\.loc[^\n]*", "", body[body.index("{") :], flags=re.MULTILINE)
        # labels, scopes' braces, and instructions, which may hold braces of their own
        for piece in re.findall(r"\s*(\$\w+:|[{}]|(?:[^;{}:]|::)+(?:\{[^}]*\}[^;{}]*)*;)", body):
            self._read(" ".join(piece.split()))
            if not self._scopes:
                return

    def _read(self, piece: str) -> None:
        if piece == "{":
            self._scopes.append({})
        elif piece == "}":
            self._scopes.pop()
        elif piece.endswith(":"):
            self.labels[piece[:-1]] = len(self.lines)
        elif room := re.match(r"\.shared .* (\w+)\[(\d+)\]", piece):
            self._scopes[-1][room[1]] = str(self.shared)
            self.shared += -(-int(room[2]) // 128) * 128
        elif piece[0] != ".":
            found = re.match(r"(?:@(!?)([%\w]+) )?(\S+?)(?: (.*))?;", piece)
            assert found, piece
            negated, guard, operation, rest = found.groups("")
            operands = re.findall(r"\{[^}]*\}|\[[^]]*\]|[^,\s]+", rest)
            for scope in self._scopes:
                operands = [scope.get(name, name) for name in operands]
            kinds = re.split(r"\.|::", operation)
            self.lines.append(Line(piece, guard or None, not negated, kinds, operands))


class Block:
    """The threads of a program, its shared memory, and the tensors that it may touch."""

    def __init__(self, program: Program, warps: int, shared: int, tensors: Any) -> None:
        self.program, self.threads = program, 32 * warps
        self.spaces = [(0, np.zeros(program.shared + shared, np.uint8))]
        for address, size in tensors:
            held = (ctypes.c_uint8 * size).from_address(address)
            self.spaces.append((address, np.ctypeslib.as_array(held)))
        self.notes: set[str] = set()

    def run(
        self, place: tuple[int, int], columns: int, parameters: dict[str, int]
    ) -> Iterator[None]:
        """Run the block at a place of the grid; stop where it looks whether others are done."""
        thread = np.arange(self.threads, dtype=np.uint32)
        self.registers: dict[str, Any] = {
            "%tid.x": thread, "%laneid": thread % 32, "%ctaid.x": self._fill(place[0]),
            "%ctaid.y": self._fill(place[1]), "%nctaid.x": self._fill(columns),
            "global_smem": self._fill(self.program.shared),
        }  # fmt: skip
        self.parameters, self.barriers = parameters, 0
        self.touched: dict[int, Any] = {}  # who wrote and read each memory last, and when
        self.copies: list[list[Any]] = [[]]  # groups, the last of them open
        self.spaces[0][1][:] = 255  # no number
        at, lines = 0, self.program.lines
        while at < len(lines):
            self.line = lines[at]
            at += 1
            if self.line.kinds[0] in ("bra", "ret"):
                if self._all_go():
                    operands = self.line.operands
                    at = self.program.labels[operands[0]] if operands else len(lines)
            elif self.line.kinds[0] not in NOTHING:
                if "acquire" in self.line.kinds:
                    yield
                run = getattr(self, f"_{self.line.kinds[0]}", self._compute)
                with np.errstate(all="ignore"):
                    run(self.line.kinds, *self.line.operands)
        if any(real.any() for group in self.copies for *_, real in group):
            self.notes.add("a block ends before its copies")

    def _real(self) -> Any:
        """Which threads take part in the line."""
        if self.line.guard is None:
            return self._fill(1) > 0
        return self.registers[self.line.guard] == self.line.holds

    def _all_go(self) -> bool:
        real = self._real()
        assert real.all() or not real.any(), f"threads part at {self.line.text}"
        return bool(real.all())

    def _fill(self, number: int, kind: str = "u32") -> Any:
        size = KINDS[kind].itemsize
        return np.full(self.threads, number & (1 << size * 8) - 1, f"u{size}")

    def _get(self, name: str, kind: str) -> Any:
        if name in self.registers:
            x = self.registers[name]
        elif kind == "pred":
            return self._fill(int(name)) > 0
        else:
            assert name[0] != "%", f"{name} is not written before {self.line.text}"
            x = self._fill(
                int(name[2:] if name[:2] == "0f" else name, 16 if "0f" in name else 0), kind
            )
        return x if kind == "pred" else x.astype(f"u{KINDS[kind].itemsize}").view(KINDS[kind])

    def _set(self, name: str, x: Any) -> None:
        if x.dtype != bool:
            x = np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}")
        if name in self.registers and self.line.guard:
            x = np.where(self._real(), x, self.registers[name])
        self.registers[name] = x

    def _compute(self, kinds: list[str], to: str, *names: str) -> None:
        kind = kinds[-1]
        if "wide" in kinds or "hi" in kinds:
            long = f"{kind[0]}{2 * int(kind[1:])}"
            given = [self._get(name, kind).astype(KINDS[long]) for name in names[:2]]
            given += [self._get(name, long) for name in names[2:]]
            x = COMPUTE[kinds[0]](*given)
            self._set(to, x if "wide" in kinds else (x >> int(kind[1:])).astype(KINDS[kind]))
            return
        x = COMPUTE[kinds[0]](*(self._get(name, kind) for name in names))
        if "relu" in kinds:
            x = np.maximum(x, 0)
        self._set(to, x if kind == "pred" else x.astype(KINDS[kind]))

    def _mov(self, kinds: list[str], to: str, source: str) -> None:
        parts = _names(to + source)
        if not parts:
            self._compute(kinds, to, source)
        elif to[0] == "{":
            whole = self._get(source, kinds[1]).view(WORDS[KINDS[kinds[1]].itemsize // len(parts)])
            for i, name in enumerate(parts):
                self._set(name, whole.reshape(self.threads, -1)[:, i])
        else:
            part = f"b{KINDS[kinds[1]].itemsize * 8 // len(parts)}"
            whole = np.stack([self._get(name, part) for name in parts], axis=1)
            self._set(to, whole.view(KINDS[kinds[1]])[:, 0])

    def _shl(self, kinds: list[str], to: str, a: str, by: str) -> None:
        x = self._get(a, kinds[-1])
        bits = self._get(by, "u32").astype(x.dtype)
        self._set(to, x << bits if kinds[0] == "shl" else x >> bits)

    _shr = _shl

    def _bfe(self, kinds: list[str], to: str, a: str, first: str, count: str) -> None:
        x = self._get(a, kinds[-1])
        begin, size = (self._get(name, "u32").astype(x.dtype) for name in (first, count))
        self._set(to, x << (32 - begin - size) >> (32 - size))

    def _setp(self, kinds: list[str], to: str, a: str, b: str) -> None:
        x, y = self._get(a, kinds[-1]), self._get(b, kinds[-1])
        found = COMPARE[kinds[1][:2]](x, y)
        self._set(to, found | np.isnan(x) | np.isnan(y) if kinds[1][2:] else found)

    def _selp(self, kinds: list[str], to: str, a: str, b: str, p: str) -> None:
        self._set(to, np.where(self.registers[p], self._get(a, kinds[1]), self._get(b, kinds[1])))

    def _cvt(self, kinds: list[str], to: str, *names: str) -> None:
        wanted, kind = kinds[-2:]
        given = [self._get(name, kind) for name in names]
        if kind == "bf16":
            given = [(x.astype(np.uint32) << 16).view(np.float32) for x in given]
        if wanted.startswith("bf16"):
            bits = [x.view(np.uint32) for x in given]
            given = [((x + 0x7FFF + (x >> 16 & 1)) >> 16).astype(np.uint16) for x in bits]
        else:
            given = [x.astype(KINDS[wanted.removesuffix("x2")]) for x in given]
        # of two, the first is the higher half
        both = np.stack(given[::-1], axis=1)
        self._set(to, both.view(np.uint32)[:, 0] if wanted.endswith("x2") else both[:, 0])

    def _shfl(self, kinds: list[str], to: str, a: str, by: str, *_: str) -> None:
        thread, lanes = np.arange(self.threads), self._get(by, "u32").astype(int)
        assert kinds[2] in ("bfly", "idx")
        source = thread ^ lanes if kinds[2] == "bfly" else thread // 32 * 32 + lanes
        self._set(to, self._get(a, "b32")[source])

    def _redux(self, kinds: list[str], to: str, a: str, _: str) -> None:
        assert kinds[2] == "min"
        of_warps = self._get(a, kinds[-1]).reshape(-1, 32)
        self._set(to, np.repeat(of_warps.min(1), 32))

    def _bar(self, *_: Any) -> None:
        self.barriers += 1

    def _address(self, operand: str) -> Any:
        found = re.fullmatch(r"\[([%\w]+)\+?(-?\d*)\]", operand.replace(" ", ""))
        assert found, operand
        return self.registers[found[1]].astype(np.int64) + int(found[2] or 0)

    def _find(self, address: Any, size: int, shared: bool) -> tuple[Any, Any]:
        """Where in which memory some bytes are."""
        assert not (address % size).any(), f"not aligned: {self.line.text}"
        for base, memory in self.spaces[:1] if shared else self.spaces[1:]:
            at = address - base
            if at.min() >= 0 and at.max() + size <= len(memory):
                return memory, at
        raise AssertionError(f"out of bounds: {self.line.text}")

    def _parts(self, address: Any, size: int, shared: bool, real: Any) -> Iterator[Any]:
        """The threads that go to one memory, then those that go to another."""
        assert not (address[real] % size).any(), f"not aligned: {self.line.text}"
        left = real.copy()
        for base, memory in self.spaces[:1] if shared else self.spaces[1:]:
            part = left & (address >= base) & (address + size <= base + len(memory))
            left &= ~part
            if part.any():
                yield part
        if left.any():
            self._find(address[left], size, shared)

    def _words(self, address: Any, size: int, shared: bool, real: Any, writes: bool) -> Any:
        """Memory as words, and which of them."""
        memory, at = self._find(address[real], size, shared)
        lanes = np.flatnonzero(real)
        if id(memory) not in self.touched:
            self.touched[id(memory)] = np.full((4, len(memory) // 2), -1)
        writer, written, reader, read = self.touched[id(memory)]
        place = at // 2
        clash = (written[place] == self.barriers) & (writer[place] != lanes)
        if writes:
            clash |= (read[place] == self.barriers) & (reader[place] != lanes)
            writer[place], written[place] = lanes, self.barriers
        else:
            reader[place], read[place] = lanes, self.barriers
        if clash.any():
            self.notes.add(f"no barrier before {self.line.text}")
        return memory[: len(memory) // size * size].view(WORDS[size]), at // size

    def _ld(self, kinds: list[str], to: str, source: str) -> None:
        size, real = KINDS[kinds[-1]].itemsize, self._real()
        if kinds[1] == "param":
            self._set(to, self._fill(self.parameters[source[1:-1]], kinds[-1]))
        elif real.any():
            address, names = self._address(source), _names(to) or [to]
            found = {name: np.zeros(self.threads, WORDS[size]) for name in names}
            for part in self._parts(address, size * len(names), "shared" in kinds, real):
                for k, name in enumerate(names):
                    where = (address + k * size, size, "shared" in kinds, part)
                    words, at = self._words(*where, writes=False)
                    found[name][part] = words[at]
            for name, x in found.items():
                self._set(name, x)

    def _st(self, kinds: list[str], to: str, source: str) -> None:
        size, real = KINDS[kinds[-1]].itemsize, self._real()
        if real.any():
            address, names = self._address(to), _names(source) or [source]
            for part in self._parts(address, size * len(names), "shared" in kinds, real):
                for k, name in enumerate(names):
                    where = (address + k * size, size, "shared" in kinds, part)
                    words, at = self._words(*where, writes=True)
                    words[at] = self._get(name, f"b{size * 8}")[part]

    def _red(self, kinds: list[str], to: str, source: str) -> None:
        real = self._real()
        if real.any():
            words, at = self._words(self._address(to), 4, False, real, writes=True)
            np.add.at(words.view(KINDS[kinds[-1]]), at, self._get(source, kinds[-1])[real])

    def _cp(self, kinds: list[str], *operands: str) -> None:
        if kinds[2] == "commit_group":
            self.copies.append([])
        elif kinds[2] == "wait_all":
            self._land(0)
        elif kinds[2] == "wait_group":
            self._land(int(operands[0]) + 1)
        elif (real := self._real()).any():
            to, source = (self._address(operand) for operand in operands[:2])
            self._find(to[real], 16, True)
            for part in self._parts(source, 16, False, real):
                for k in range(0, 16, 4):
                    self._words(to + k, 4, True, part, writes=True)
                self.copies[-1].append((to, source, part))

    def _land(self, kept: int) -> None:
        """Finish all groups of copies but so many: as late as may be."""
        while len(self.copies) > kept:
            for to, source, real in self.copies.pop(0):
                for k in range(0, 16, 4):
                    words, at = self._words(source + k, 4, False, real, writes=False)
                    x = words[at]
                    words, at = self._words(to + k, 4, True, real, writes=True)
                    words[at] = x
        self.copies = self.copies or [[]]

    def _ldmatrix(self, kinds: list[str], to: str, source: str) -> None:
        for i, name in enumerate(_names(to)):
            rows = self._rows(self._address(source), i)
            x = rows.transpose(0, 2, 1) if "trans" in kinds else rows
            self._set(name, np.ascontiguousarray(x).view(np.uint32).reshape(-1))

    def _stmatrix(self, kinds: list[str], to: str, source: str) -> None:
        for i, name in enumerate(_names(source)):
            x = self._get(name, "b32").view(np.uint16).reshape(-1, 8, 8)
            address = self._address(to).reshape(-1, 4, 8)[:, i].reshape(-1)
            memory, at = self._find(address, 16, True)
            rows = x.transpose(0, 2, 1) if "trans" in kinds else x
            memory.view(np.uint16)[(at // 2)[:, None] + np.arange(8)] = rows.reshape(-1, 8)

    def _rows(self, address: Any, i: int) -> Any:
        """Matrices (warps, 8, 8) whose rows the i-th eight lanes point to."""
        memory, at = self._find(address.reshape(-1, 4, 8)[:, i].reshape(-1), 16, True)
        return memory.view(np.uint16)[(at // 2)[:, None] + np.arange(8)].reshape(-1, 8, 8)

    def _mma(self, kinds: list[str], *operands: str) -> None:
        """D = A B + C of 16x8x8 in TF32, as the PTX manual's tables lay fragments over lanes."""
        assert kinds[3] == "m16n8k8"
        assert self.threads == 32
        group, inside = np.arange(32) // 4, np.arange(32) % 4
        d, *given = (_names(operand) for operand in operands)
        a, b, c = ([self._get(name, "f32") for name in names] for names in given)
        left, right, total = np.zeros((16, 8)), np.zeros((8, 8)), np.zeros((16, 8))
        for k in range(4):
            left[group + k % 2 * 8, inside + k // 2 * 4] = _cut(a[k])
            total[group + k // 2 * 8, inside * 2 + k % 2] = c[k]
        for k in range(2):
            right[inside + k * 4, group] = _cut(b[k])
        total = (total + left @ right).astype(np.float32)
        for k in range(4):
            self._set(d[k], total[group + k // 2 * 8, inside * 2 + k % 2])


def _names(operand: str) -> list[str]:
    """What is in an operand's braces."""
    found = re.search(r"\{(.*?)\}", operand)
    return re.findall(r"[^,\s]+", found[1]) if found else []


def _cut(x: Any) -> Any:
    """To TF32's ten bits."""
    return (x.view(np.uint32) & 0xFFFFE000).view(np.float32)
