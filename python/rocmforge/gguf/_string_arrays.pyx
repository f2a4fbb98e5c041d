# cython: boundscheck=False, wraparound=False
"""Arrays of strings in a header: a vocabulary has several 100,000, too many for Python's loops.

A string is its length in bytes as a little-endian u64, then its bytes, of any alignment.
"""

from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy


cdef inline bint find(const uint8_t[::1] data, Py_ssize_t* position, Py_ssize_t* length) noexcept:
    """Moves `position` to the bytes of the string there; false if it does not lie in `data`."""
    cdef uint64_t claimed
    if data.shape[0] - position[0] < 8:
        return False
    memcpy(&claimed, &data[position[0]], 8)
    if claimed > <uint64_t>(data.shape[0] - position[0] - 8):
        return False
    position[0] += 8
    length[0] = <Py_ssize_t>claimed
    return True


def skip(const uint8_t[::1] data not None, Py_ssize_t position, Py_ssize_t count, Py_ssize_t limit):
    """(number of strings skipped, where the next begins): up to `count` that lie in `data`.

    Stops at a string of more than `limit` bytes. `position` is in [0, size of data].
    """
    cdef Py_ssize_t skipped = 0, at = position, length = 0
    while skipped < count:
        if not find(data, &at, &length) or length > limit:
            break
        at += length
        position = at
        skipped += 1
    return skipped, position


def decode(const uint8_t[::1] data not None, Py_ssize_t position, Py_ssize_t count):
    """The `count` strings from `position` on, which have been skipped before; UnicodeDecodeError."""
    cdef Py_ssize_t length = 0
    cdef list strings = []
    for _ in range(count):
        if not find(data, &position, &length):
            raise IndexError("the array ends outside of the header")
        # One past the end is an address too, as that of an empty string there.
        strings.append(PyUnicode_DecodeUTF8(<const char*>&data[0] + position, length, NULL))
        position += length
    return strings
