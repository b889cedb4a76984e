"""Rows of a CIF loop as integers: the eight bytes of a cell are one, so that many rows are read at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CELL = 8  # bytes of a cell that are looked at
POWERS = np.array([float(10**power) for power in range(CELL + 1)])
BLANK, NEWLINE = (np.uint8(ord(sign)) for sign in " \n")
PAIR = np.uint64(0x000000FF000000FF)


class UnusualError(Exception):
    """The rows are not of the common form; a reader of every form shall read them."""


def require(usual: object) -> None:
    """Raise `UnusualError` where a condition of the common form does not hold."""
    if not usual:
        raise UnusualError


def changes(*columns: np.ndarray) -> np.ndarray:
    """Where any column (A,) has another value than in the row before; true for the first row."""
    new = np.ones(len(columns[0]), bool)
    for index, column in enumerate(columns):
        differ = column[1:] != column[:-1]
        new[1:] = differ if index == 0 else new[1:] | differ
    return new


def _eight(sign: str | int) -> np.uint64:
    """Eight times the same byte."""
    return np.uint64((sign if isinstance(sign, int) else ord(sign)) * 0x0101010101010101)


def read_numbers(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Plain decimal numbers of up to eight bytes (A,) as float64, and which of them have a point.

    Eight digits are read by three multiplications, as in Lemire (2021) Softw. Pract. Exper. 51, 1700. An integer below
    2^53 over a power of ten is exact to the last bit. Raises `UnusualError` where a number has another form.
    """
    negative = words.astype(np.uint8) == ord("-")
    if negative.any():
        words = np.where(negative, words >> 8, words)
    unlike = words ^ _eight(".")
    point = (unlike - _eight(1)) & ~unlike & _eight(0x80)  # the lowest set bit marks the first point
    before = ((point & (~point + np.uint64(1))) >> 7) - np.uint64(1)  # the bytes before it, all where there is none
    digits = (words & before) | ((words >> 8) & ~before)
    count = np.bitwise_count((digits + _eight(0x7F)) & _eight(0x80)).astype("<u8")  # of bytes that are not zero
    require(count.min(initial=CELL) > 0)
    right = (digits << (8 * (CELL - count))) | (_eight("0") >> (8 * count))
    require(not np.bitwise_or.reduce((right + _eight(0x46)) | (right - _eight("0"))) & _eight(0x80))
    right -= _eight("0")
    right = right * np.uint64(10) + (right >> 8)
    value = (
        (right & PAIR) * np.uint64(0x000F424000000064) + ((right >> 16) & PAIR) * np.uint64(0x0000271000000001)
    ) >> 32
    has_point = point != 0
    decimals = np.where(has_point, count - (np.bitwise_count(before) >> 3), 0)
    return np.where(negative, -1.0, 1.0) * value / POWERS[decimals], has_point


def read_integers(words: np.ndarray) -> np.ndarray:
    """Integers of up to eight bytes, int32 (A,); `UnusualError` where one has another form."""
    values, has_point = read_numbers(words)
    require(not has_point.any())
    return values.astype(np.int32)


class Free:
    """Where the cells of lines lie that are cut at blanks."""

    def __init__(self, text: np.ndarray, lines: bytes, columns: int) -> None:
        blank = text <= BLANK
        if (blank[1:] & blank[:-1]).any():
            edges = np.append(0, np.flatnonzero(blank[1:] != blank[:-1]) + 1)
            start, stop = edges[0::2], edges[1::2]
        else:  # one blank between cells
            stop = np.flatnonzero(blank)
            start = np.append(0, stop[:-1] + 1)
        require(len(start) % columns == 0)
        self.start, self.stop = start.reshape(-1, columns), stop.reshape(-1, columns)
        ends = np.flatnonzero(text == NEWLINE)
        require(len(ends) == len(self.start))
        require((ends >= self.stop[:, -1]).all() and (ends[:-1] < self.start[1:, 0]).all())
        self.words = np.ndarray(len(lines), "<u8", lines + bytes(CELL), 0, (1,))  # at every byte, the next eight

    def column_of(self, place: np.ndarray) -> np.ndarray:
        """The column of the cells that begin at some bytes."""
        return np.searchsorted(self.start.ravel(), place) % self.start.shape[1]

    def cells(self, column: int, longest: int, rows: np.ndarray | slice) -> np.ndarray:
        """See `Rows.cells`."""
        start = self.start[rows, column]
        length = self.stop[rows, column] - start
        require(length.max(initial=0) <= longest)
        return self.words[start] & (~np.uint64(0) >> (8 * (CELL - length)).view("<u8"))


def _extremes(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest byte of every column of a grid (A, width); 32 rows are compared at once, which is faster."""
    rows, width = grid.shape
    most = rows - rows % 32
    long = grid[:most].reshape(-1, 32 * width)
    if not most:
        return grid.min(axis=0), grid.max(axis=0)
    small, large = long.min(axis=0).reshape(32, width), long.max(axis=0).reshape(32, width)
    rest = grid[most - 1 :]  # never empty
    return np.minimum(small.min(axis=0), rest.min(axis=0)), np.maximum(large.max(axis=0), rest.max(axis=0))


class Fixed:
    """Where the cells of lines lie that are all of one width, with every column at its place, as in the archive."""

    def __init__(self, text: np.ndarray, lines: bytes, columns: int) -> None:
        self.width = lines.find(b"\n") + 1
        require(len(text) % self.width == 0)
        grid = text.reshape(-1, self.width)
        require((grid[:, -1] == NEWLINE).all() and np.count_nonzero(text == NEWLINE) == len(grid))
        self.blank = grid <= BLANK
        narrowest, widest = _extremes(grid)
        gap = np.append(True, widest <= BLANK)
        self.low, self.high = np.flatnonzero(gap[:-1] & ~gap[1:]), np.flatnonzero(~gap[:-1] & gap[1:])
        require(len(self.low) == columns and not self.blank[:, self.low].any())
        flat = self.blank.ravel()
        require(1 + np.count_nonzero(flat[:-1] & ~flat[1:]) == len(grid) * columns)  # one cell a place
        self.ragged = np.minimum.reduceat(narrowest, np.stack([self.low, self.high], 1).ravel())[0::2] <= BLANK
        self.lines = lines + bytes(CELL)

    def column_of(self, place: np.ndarray) -> np.ndarray:
        """The column of the cells that begin at some bytes."""
        return np.searchsorted(self.low, place % self.width)

    def cells(self, column: int, longest: int, rows: np.ndarray | slice) -> np.ndarray:
        """See `Rows.cells`."""
        low, high = int(self.low[column]), int(self.high[column])
        require(high - low <= longest or self.blank[rows, low + longest : high].all())
        words = np.ndarray(len(self.blank), "<u8", self.lines, low, (self.width,))[rows]
        words = words & (~np.uint64(0) >> np.uint64(8 * max(0, CELL - high + low)))
        if self.ragged[column]:  # blanks, which are at the end, become zero
            words &= ((((words ^ _eight(" ")) + _eight(0x7F)) & _eight(0x80)) >> 7) * np.uint64(0xFF)
        return words


class Rows:
    """Whole lines of a loop, cut into cells.

    Only columns of `quotable` may hold quoted cells, of three letters or more. Raises `UnusualError` where a line has
    not one cell a tag, or a byte could mean more than itself.
    """

    def __init__(self, lines: bytes, tags: Sequence[str], quotable: Sequence[str]) -> None:
        self.tags = tags
        text = np.frombuffer(lines, np.uint8)
        require(text[0] > BLANK and text[-1] == NEWLINE and text.max() <= ord("~"))
        require(np.count_nonzero(text <= BLANK) == np.count_nonzero(text == BLANK) + np.count_nonzero(text == NEWLINE))
        require(not any(sign in lines for sign in (b"#", b"_", b";", b"$", b"[", b"]")))
        self.layout: Free | Fixed
        try:
            self.layout = Fixed(text, lines, len(tags))
        except UnusualError:
            self.layout = Free(text, lines, len(tags))
        if b"'" in lines or b'"' in lines:
            self._check_quotes(text, quotable)

    def _check_quotes(self, text: np.ndarray, quotable: Sequence[str]) -> None:
        place = np.flatnonzero((text == ord("'")) | (text == ord('"')))
        place = place[(place == 0) | (text[place - 1] <= BLANK)]
        blank = np.flatnonzero(text <= BLANK)
        last = blank[np.searchsorted(blank, place)] - 1
        require({self.tags[column] for column in set(self.layout.column_of(place).tolist())} <= set(quotable))
        require((text[place] == text[last]).all() and (last > place + 3).all())

    def cells(self, tag: str, longest: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """A column as integers (A,), the first letter in the lowest byte; none may be longer than `longest` bytes."""
        return self.layout.cells(self.tags.index(tag), longest, rows)
