"""What the flow tables hold, as Python sees it."""


cdef list flows_in(table_t *table, RuleBook book, bint first_times):
    """FlowCounters of every flow in the table; first_ns is 0 unless ``first_times`` says that the table keeps them."""
    cdef flow_t *flow
    cdef uint64_t slot
    cdef uint8_t protocol
    cdef bint with_spi, tunnelled
    flows = []
    finish_growing(table)
    for slot in range(table.mask + 1):
        flow = flow_at(table, slot)
        if flow.endpoints == 0:
            continue
        if not (flow.endpoints >> 16) & FLAG_IPV6:
            source = IPv4Address(flow.addresses >> 32)
            destination = IPv4Address(flow.addresses & 0xFFFFFFFF)
        else:
            source = IPv6Address((<wide_flow_t *>flow).addresses6[:16])
            destination = IPv6Address((<wide_flow_t *>flow).addresses6[16:32])
        protocol = <uint8_t>(flow.endpoints >> 24)
        with_spi, tunnelled = has_spi(protocol), is_tunnelled(table, flow)
        flows.append(FlowCounters(
            source=source,
            destination=destination,
            protocol=protocol,
            source_port=0 if with_spi else flow.endpoints >> 48,
            destination_port=0 if with_spi else <uint16_t>(flow.endpoints >> 32),
            ports_known=not (flow.endpoints >> 16) & FLAG_PORTS_UNKNOWN,
            rule=book.name_of(flow),
            conforming_packets=flow.packets[1] + (<uint64_t>flow.packets_high[1] << 32),
            conforming_bytes=flow.bytes[1],
            excess_packets=flow.packets[0] + (<uint64_t>flow.packets_high[0] << 32),
            excess_bytes=flow.bytes[0],
            first_ns=table.now.first_ns[slot] if first_times else 0,
            last_ns=flow.bucket.latest_ns,
            spi=spi_of(flow),
            teid=(<wide_flow_t *>flow).attributes[0] >> ATTRIBUTE_TEID_SHIFT if tunnelled else None,
            qfi=qfi_of(<wide_flow_t *>flow) if tunnelled else None,
        ))
    return flows


cdef object spi_of(flow_t *flow):
    if not has_spi(<uint8_t>(flow.endpoints >> 24)) or (flow.endpoints >> 16) & FLAG_PORTS_UNKNOWN:
        return None
    return flow.endpoints >> 32


cdef bint is_tunnelled(const table_t *table, const flow_t *flow) noexcept:
    return table.shift == 7 and (<const wide_flow_t *>flow).attributes[0] >> 31 & 1


cdef object qfi_of(wide_flow_t *flow):
    return flow.attributes[0] >> ATTRIBUTE_QFI_SHIFT & 0x3F if flow.attributes[0] >> 30 & 1 else None
