# The walk as Python sees it; included by engine.pxi.

cdef class Walk:
    """A walk through a pcapng, for captures that come in pieces: what it has learnt stays from one to the next.

    Given to run() as the format, in the order of the pieces. Not for two threads at once.
    """

    cdef walk_t state

    def __cinit__(self):
        self.state.blocks = True

    def __dealloc__(self):
        free(self.state.interfaces)

    def section(self):
        """(byte order, interfaces) where it stands.

        An interface is (link type, snaplen, if_tsresol, if_tsoffset), as `upf.captures.pcapng.Interface`.
        """
        cdef interface_t *interface
        cdef uint32_t number
        interfaces = []
        for number in range(self.state.interface_count):
            interface = self.state.interfaces + number
            interfaces.append(
                (interface.link_type, interface.snaplen, interface.resolution, interface.offset_s)
            )
        other = ">" if sys.byteorder == "little" else "<"
        native = "<" if sys.byteorder == "little" else ">"
        return other if self.state.swapped else native, interfaces


cdef int begin_walk(walk_t *walk, const uint8_t *data, uint64_t size, capture_format, uint64_t offset) except -1:
    if offset > size:
        raise ValueError(f"offset: expected at most {size}, the capture's size, got {offset}")
    if isinstance(capture_format, Walk):
        walk[0] = (<Walk>capture_format).state
    else:
        walk.blocks = False
        walk.swapped = capture_format.swapped
        walk.fraction_ns = 1 if capture_format.nanoseconds else 1000
        walk.link_type = capture_format.link_type
    walk.data, walk.size, walk.at = data, size, offset
    return 0


cdef void leave_walk(const walk_t *walk, capture_format):
    if isinstance(capture_format, Walk):
        (<Walk>capture_format).state = walk[0]


def time_span_ns(capture, capture_format, *, uint64_t offset):
    """(earliest, latest) packet time of the whole records from byte ``offset`` on; (0, 0) where there are none."""
    cdef const uint8_t[::1] data = capture
    cdef walk_t walk
    cdef record_t record
    cdef int64_t earliest_ns = 0, latest_ns = 0
    cdef bint first = True
    begin_walk(&walk, &data[0] if data.shape[0] else NULL, data.shape[0], capture_format, offset)
    with nogil:
        while next_record(&walk, &record):
            earliest_ns = record.ts_ns if first or record.ts_ns < earliest_ns else earliest_ns
            latest_ns = record.ts_ns if first or record.ts_ns > latest_ns else latest_ns
            first = False
    leave_walk(&walk, capture_format)
    return earliest_ns, latest_ns
