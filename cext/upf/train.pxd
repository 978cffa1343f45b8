"""Neighbouring segments of one TCP stream put together to the super-packet that the kernel would have made of them (GRO).

What is put together can be taken apart again into the same segments, byte for byte, but for the identification of IPv4
where DF says that it means nothing (RFC 6864): so nothing is lost by it, and one system call does for many.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from posix.uio cimport iovec

from datagrams cimport cc_checksum
from intrinsics cimport cc_network16, cc_network32
from superpacket cimport VNET_BYTES, VNET_NEEDS_CHECKSUM, VNET_TCP4, VNET_TCP6, put16, vnet_t

cdef enum:
    MOST_CARS = 64
    # IPv6, and TCP with all its options.
    MOST_CAR_HEADERS = 100
    TRAIN_BYTES = 65535
    TCP_ACK_PSH = 0x18
    TCP_PSH = 0x08


ctypedef struct car_t:
    const uint8_t *ip
    uint32_t length
    uint32_t transport
    uint32_t headers
    uint32_t sequence


ctypedef struct train_t:
    car_t first
    uint32_t count
    uint32_t segment_bytes      # payload of each but the last
    uint32_t payload_bytes
    bint over                   # the last was shorter, or pushed
    uint8_t head[VNET_BYTES + MOST_CAR_HEADERS]
    iovec parts[MOST_CARS + 1]  # the head, and every payload


cdef inline bint sums_up(const car_t *car) noexcept nogil:
    """Whether the checksum of its transport is right: nobody will look at it again."""
    cdef uint32_t addresses = 8 if car.transport == 20 else 32
    cdef uint32_t total = cc_checksum(car.ip + car.transport - addresses, addresses)
    total += cc_checksum(car.ip + car.transport, car.length - car.transport)
    total += 6 + car.length - car.transport
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16) == 0xFFFF


cdef inline bint read_car(car_t *car, const uint8_t *ip, uint32_t length) noexcept nogil:
    """Whether it can be part of a train: TCP with a payload, whole, without anything out of the ordinary."""
    cdef const uint8_t *tcp
    car.ip, car.length = ip, length
    if ip[0] == 0x45 and length >= 40 and cc_network16(ip + 2) == length:
        if ip[9] != 6 or cc_network16(ip + 6) != 0x4000:
            return False
        car.transport = 20
    elif ip[0] >> 4 == 6 and length >= 60 and 40 + <uint32_t>cc_network16(ip + 4) == length:
        if ip[6] != 6:
            return False
        car.transport = 40
    else:
        return False
    tcp = ip + car.transport
    car.headers = car.transport + (tcp[12] >> 4) * 4
    if tcp[12] & 15 or tcp[13] & ~<uint8_t>TCP_ACK_PSH or not tcp[13] & 0x10:
        return False
    if car.headers < car.transport + 20 or car.headers >= length:
        return False
    car.sequence = cc_network32(tcp + 4)
    return sums_up(car)


cdef inline bint follows(const train_t *train, const car_t *car) noexcept nogil:
    """Whether the car may be hung on: the same stream, the next bytes of it, the same in all else that headers say."""
    cdef const uint8_t *a = train.first.ip
    cdef const uint8_t *b = car.ip
    cdef uint32_t payload_bytes = car.length - car.headers
    if (
        train.over or train.count == MOST_CARS or car.headers != train.first.headers
        or car.transport != train.first.transport or payload_bytes > train.segment_bytes
        or car.sequence != <uint32_t>(train.first.sequence + train.payload_bytes)
        or train.first.headers + train.payload_bytes + payload_bytes > TRAIN_BYTES
    ):
        return False
    if car.transport == 20:
        if cc_network16(a) != cc_network16(b) or memcmp(a + 6, b + 6, 4) != 0 or memcmp(a + 12, b + 12, 8) != 0:
            return False
    elif memcmp(a, b, 4) != 0 or memcmp(a + 6, b + 6, 34) != 0:
        return False
    a += car.transport
    b += car.transport
    # Ports; acknowledgement and header length; window; urgent pointer and options.
    return (
        memcmp(a, b, 4) == 0 and memcmp(a + 8, b + 8, 5) == 0 and memcmp(a + 14, b + 14, 2) == 0
        and memcmp(a + 18, b + 18, car.headers - car.transport - 18) == 0
    )


cdef inline void hang_on(train_t *train, const car_t *car) noexcept nogil:
    """The first of a train, or one that follows()."""
    if train.count == 0:
        train.first = car[0]
        train.segment_bytes = car.length - car.headers
        train.payload_bytes = 0
    train.count += 1
    train.parts[train.count].iov_base = <void *>(car.ip + car.headers)
    train.parts[train.count].iov_len = car.length - car.headers
    train.payload_bytes += car.length - car.headers
    train.over = car.length - car.headers < train.segment_bytes or car.ip[car.transport + 13] & TCP_PSH != 0


cdef inline void couple(train_t *train, const car_t *last) noexcept nogil:
    """Writes the headers of the whole in front of the payloads."""
    cdef vnet_t *vnet = <vnet_t *>train.head
    cdef uint8_t *ip = train.head + VNET_BYTES
    cdef uint32_t transport = train.first.transport, length = train.first.headers + train.payload_bytes, total
    cdef uint32_t addresses = 8 if transport == 20 else 32
    memcpy(ip, train.first.ip, train.first.headers)
    vnet.flags = VNET_NEEDS_CHECKSUM
    vnet.kind = VNET_TCP4 if transport == 20 else VNET_TCP6
    vnet.header_bytes, vnet.segment_bytes = <uint16_t>train.first.headers, <uint16_t>train.segment_bytes
    vnet.checksum_start, vnet.checksum_offset = <uint16_t>transport, 16
    if transport == 20:
        put16(ip + 2, length)
        put16(ip + 10, 0)
        put16(ip + 10, ~<uint32_t>cc_checksum(ip, 20))
    else:
        put16(ip + 4, length - 40)
    ip[transport + 13] = last.ip[transport + 13]
    total = 6 + length - transport + cc_checksum(ip + transport - addresses, addresses)
    total = (total & 0xFFFF) + (total >> 16)
    put16(ip + transport + 16, (total & 0xFFFF) + (total >> 16))
    train.parts[0].iov_base = train.head
    train.parts[0].iov_len = VNET_BYTES + train.first.headers
