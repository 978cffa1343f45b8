"""Reed–Solomon over GF(2^8) as RFC 5510 has it: the symbols of a block that did not come, from as many as it has that did.

Symbol i is the value at x_i of the polynomial that goes through the source symbols at x_0 to x_{k-1}, with x_0 = 0 and
x_i = a^(i-1): so is any other, by Lagrange's formula, from any k of them.
"""

from libc.stdint cimport uint8_t
from libc.string cimport memset
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

cdef enum:
    # x^8 + x^4 + x^3 + x^2 + 1
    POLYNOMIAL = 0x11D
    ELEMENTS = 255

cdef uint8_t EXPONENT[2 * ELEMENTS]
cdef int LOGARITHM[256]


cdef void fill_tables() noexcept:
    cdef int value = 1, power
    for power in range(ELEMENTS):
        EXPONENT[power] = EXPONENT[power + ELEMENTS] = <uint8_t>value
        LOGARITHM[value] = power
        value <<= 1
        if value & 0x100:
            value ^= POLYNOMIAL


fill_tables()


cdef inline uint8_t point(int symbol) noexcept nogil:
    return 0 if symbol == 0 else EXPONENT[symbol - 1]


cdef void interpolate(
    const uint8_t *xs, const uint8_t **values, int count, uint8_t x, uint8_t *result, Py_ssize_t length
) noexcept nogil:
    """The polynomial through these points, at ``x`` (which is none of them)."""
    cdef int at, other, logarithm, all_of_x = 0, value
    cdef uint8_t product[256]
    cdef const uint8_t *data
    cdef Py_ssize_t byte
    memset(result, 0, length)
    for other in range(count):
        all_of_x += LOGARITHM[x ^ xs[other]]
    for at in range(count):
        logarithm = all_of_x - LOGARITHM[x ^ xs[at]]
        for other in range(count):
            if other != at:
                logarithm -= LOGARITHM[xs[at] ^ xs[other]]
        logarithm %= ELEMENTS
        if logarithm < 0:
            logarithm += ELEMENTS
        product[0] = 0
        for value in range(1, 256):
            product[value] = EXPONENT[LOGARITHM[value] + logarithm]
        data = values[at]
        for byte in range(length):
            result[byte] ^= product[data[byte]]


def recover(list numbers, list symbols, list missing):
    """The symbols with the numbers ``missing``, from ``symbols`` (of one length) with their ``numbers``: as many as the
    block has source symbols. Raises ValueError for what makes no block."""
    cdef int count = len(numbers), at
    cdef uint8_t xs[256]
    cdef const uint8_t *values[256]
    cdef uint8_t seen[256]
    cdef Py_ssize_t length
    cdef int number
    cdef bytes symbol, result
    cdef uint8_t *into
    if not 0 < count <= ELEMENTS or len(symbols) != count:
        raise ValueError(f"expected 1 to {ELEMENTS} symbols with their numbers, got {len(symbols)} and {count}")
    length = len(symbols[0])
    memset(seen, 0, sizeof(seen))
    for at in range(count):
        number = numbers[at]
        symbol = symbols[at]
        if not 0 <= number < ELEMENTS or seen[number]:
            raise ValueError(f"symbol {number}: expected each number once, 0 to {ELEMENTS - 1}")
        if PyBytes_GET_SIZE(symbol) != length:
            raise ValueError(f"symbol {number}: expected {length} bytes, got {PyBytes_GET_SIZE(symbol)}")
        seen[number] = 1
        xs[at] = point(number)
        values[at] = <const uint8_t *>PyBytes_AS_STRING(symbol)
    results = []
    for number in missing:
        if not 0 <= number < ELEMENTS or seen[number]:
            raise ValueError(f"symbol {number}: expected one that is missing")
        result = PyBytes_FromStringAndSize(NULL, length)
        into = <uint8_t *>PyBytes_AS_STRING(result)
        with nogil:
            interpolate(xs, values, count, point(number), into, length)
        results.append(result)
    return results
