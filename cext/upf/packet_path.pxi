"""The way of a packet: parsed and its flow fetched, judged by the flow's rule, noted, kept where it passes."""


cdef class PacketPath:
    """What the way of a packet touches. `Engine` is its Python face and wires it."""

    cdef parser_t parser
    cdef table_t tables[2]
    cdef RuleBook book
    cdef rule_table_t *rule_table   # the book's
    cdef NameSeeker seeker
    cdef Departures departures
    cdef readonly uint64_t packets  # judged; those that are held are not yet
    cdef uint64_t malformed[OUTCOME_COUNT]
    cdef uint64_t time_steps_back
    cdef int64_t latest_ns      # of the last packet processed
    cdef uint32_t passing       # of the verdicts, a bit each: which packets go on
    cdef Journal journal        # None where nothing is noted ...
    cdef journal_t *noted       # ... and NULL also where nothing is noted any more

    cdef bint run_records(
        self, walk_t *walk, uint64_t max_packets, int64_t time_offset_ns, bint emit, uint8_t *verdicts,
        uint64_t *processed,
    ) noexcept nogil:
        cdef packet_t batch[BATCH]
        cdef uint8_t judged[BATCH]
        cdef bint over = False
        cdef uint64_t done = 0
        cdef int wanted, count, i
        while not over and done < max_packets:
            wanted = BATCH if max_packets - done >= BATCH else <int>(max_packets - done)
            count = self.read_batch(walk, time_offset_ns, batch, wanted)
            over = count < wanted
            if cc_unlikely(self.parser.fragments.let_go != 0 or self.noted != NULL):
                self.judge_one_by_one(batch, count, judged, emit)
            else:
                self.judge_batch(batch, count, judged)
                if emit:
                    for i in range(count):
                        if self.passing >> judged[i] & 1:
                            self.departures.emit_packet(&batch[i], self.parser.located)
            if verdicts != NULL:
                memcpy(verdicts + done, judged, count)
            if cc_likely(count != 0):
                self.latest_ns = batch[count - 1].ts_ns
            done += count
            self.packets += count
        processed[0] = done
        return over

    cdef bint time_records(
        self, walk_t *walk, uint64_t max_packets, int64_t time_offset_ns, bint emit, uint64_t *ticks, uint64_t *processed
    ) noexcept nogil:
        """What read_batch() does packet by packet is here done stage by stage, so that the watch is read once a batch."""
        cdef packet_t batch[BATCH]
        cdef uint8_t judged[BATCH]
        cdef uint64_t read_at[STAGES + 1]
        cdef record_t record
        cdef packet_t *packet
        cdef bint over = False
        cdef uint64_t done = 0, began = cc_ticks()
        cdef int wanted, count, i, stage
        while not over and done < max_packets:
            wanted = BATCH if max_packets - done >= BATCH else <int>(max_packets - done)
            count = 0
            read_at[0] = cc_ticks()
            while count < wanted and next_record(walk, &record):
                packet = &batch[count]
                cc_prefetch_read(record.data + 1024)
                packet.data = record.data
                packet.captured = record.captured
                packet.wire_length = record.wire_length
                packet.ts_ns = record.ts_ns + time_offset_ns
                packet.link_type = record.link_type
                count += 1
            over = count < wanted
            read_at[1] = cc_ticks()
            for i in range(count):
                batch[i].outcome = parse_link(&self.parser, &batch[i], <int>batch[i].link_type)
                if batch[i].outcome < OUTCOME_NOT_IP:
                    prefetch_flow(&self.tables[<int>batch[i].outcome], batch[i].hash)
            read_at[2] = cc_ticks()
            for stage in range(2, 4):
                for i in range(count):
                    if batch[i].outcome < OUTCOME_NOT_IP:
                        find_flow(&self.tables[<int>batch[i].outcome], &batch[i])
                read_at[stage + 1] = cc_ticks()
            if self.parser.fragments.let_go != 0:
                self.judge_one_by_one(batch, count, judged, False)
            else:
                self.judge_batch(batch, count, judged)
            read_at[5] = cc_ticks()
            if emit:
                for i in range(count):
                    if self.passing >> judged[i] & 1:
                        self.departures.emit_packet(&batch[i], self.parser.located)
            read_at[6] = cc_ticks()
            for stage in range(STAGES):
                ticks[stage] += read_at[stage + 1] - read_at[stage]
            if count != 0:
                self.latest_ns = batch[count - 1].ts_ns
            done += count
            self.packets += count
        ticks[<int>STAGES] += cc_ticks() - began
        processed[0] = done
        return over

    cdef int read_batch(
        self, walk_t *walk, int64_t time_offset_ns, packet_t *batch, int wanted
    ) noexcept nogil:
        """Parses the next records and has their flows fetched; fewer than wanted where the walk is over."""
        cdef walk_t at = walk[0]
        cdef record_t record
        cdef packet_t *packet
        cdef outcome_t outcome
        cdef int count = 0
        cdef const uint8_t *flows = self.tables[<int>OUTCOME_NARROW].flows
        cdef const uint8_t *hints = self.tables[<int>OUTCOME_NARROW].now.hints
        cdef uint64_t mask = self.tables[<int>OUTCOME_NARROW].mask
        cdef bint far = mask >= FAR_SLOTS and hints != NULL
        while count < wanted and cc_likely(next_record(&at, &record)):
            packet = &batch[count]
            # The processor's own fetching ahead stops at the end of each page.
            cc_prefetch_read(record.data + 1024)
            packet.data = record.data
            packet.captured = record.captured
            packet.wire_length = record.wire_length
            packet.ts_ns = record.ts_ns + time_offset_ns
            packet.link_type = record.link_type
            outcome = parse_link(&self.parser, packet, <int>record.link_type)
            packet.outcome = outcome
            if cc_likely(outcome == OUTCOME_NARROW):
                if far:
                    packet.probable_slot = hinted_slot(hints, mask, packet.hash)
                cc_prefetch_write(flows + (packet.probable_slot & mask) * sizeof(flow_t))
            elif outcome < OUTCOME_NOT_IP:
                prefetch_flow(&self.tables[<int>outcome], packet.hash)
            count += 1
        walk[0] = at
        return count

    cdef void judge_batch(self, packet_t *batch, int count, uint8_t *verdicts) noexcept nogil:
        """The verdicts, of verdict_t. What is written out here is the short way of known flows under simple rules."""
        cdef rule_table_t table = self.rule_table[0]
        cdef uint8_t *flows = self.tables[<int>OUTCOME_NARROW].flows
        cdef uint64_t mask = self.tables[<int>OUTCOME_NARROW].mask
        cdef packet_t *packet
        cdef flow_t *flow
        cdef rule_t *rule
        cdef uint64_t slot, endpoints
        cdef int i
        for i in range(count):
            packet = &batch[i]
            if cc_likely(packet.outcome == OUTCOME_NARROW):
                endpoints = packet.endpoints | table.generation
                slot = packet.probable_slot & mask
                flow = <flow_t *>(flows + slot * sizeof(flow_t))
                while ((flow.addresses ^ packet.addresses) | (flow.endpoints ^ endpoints)) != 0:
                    if flow.endpoints == 0:
                        break
                    slot = (slot + 1) & mask
                    flow = <flow_t *>(flows + slot * sizeof(flow_t))
                else:
                    rule = &table.rules[flow.state & STATE_RULE]
                    if cc_likely(rule.quick):
                        verdicts[i] = judge_simply(
                            rule, table.buckets, flow, packet.ts_ns, packet.ip_length, table.averaging_window_ns,
                            &self.time_steps_back,
                        )
                        continue
            verdicts[i] = self.judge(packet)
            # The table may have grown.
            flows = self.tables[<int>OUTCOME_NARROW].flows
            mask = self.tables[<int>OUTCOME_NARROW].mask

    cdef void judge_one_by_one(self, packet_t *batch, int count, uint8_t *verdicts, bint emit) noexcept nogil:
        """A batch of which each packet is noted, or between whose packets fragments stand that are held no longer."""
        cdef transport_t transport
        cdef int i
        for i in range(count):
            self.judge_let_go(&batch[i], emit)
            self.judge_batch(&batch[i], 1, &verdicts[i])
            if self.noted != NULL and batch[i].outcome < OUTCOME_NOT_IP:
                transport.tcp_flags = 0
                if self.noted.records_flows and <uint8_t>(batch[i].endpoints >> 24) == 6:
                    transport_of(&batch[i], <int>batch[i].link_type, self.parser.gtpu_port, &transport)
                self.note(&batch[i], verdicts[i], transport.tcp_flags)
            if emit and self.passing >> verdicts[i] & 1:
                self.departures.emit_packet(&batch[i], self.parser.located)
        self.judge_let_go(NULL, emit)

    cdef void judge_let_go(self, const packet_t *before, bint emit) noexcept nogil:
        """Judges the fragments that are held no longer and stand before a packet of the batch (NULL: all of them)."""
        cdef held_t *held = next_let_go(&self.parser.fragments, before)
        cdef const uint8_t *data
        cdef uint8_t verdict
        while held != NULL:
            self.packets += 1
            finish_held(&self.parser, held)
            verdict = self.judge(&held.packet)
            if self.noted != NULL:
                self.note(&held.packet, verdict, 0)
            if emit and self.passing >> verdict & 1:
                # Where it is marked, the packet that leaves has its bytes elsewhere.
                data = held.packet.data
                self.departures.emit_packet(&held.packet, self.parser.located)
                held.packet.data = data
            free_let_go(&self.parser.fragments)
            held = next_let_go(&self.parser.fragments, before)

    cdef uint8_t judge(self, packet_t *packet) noexcept nogil:
        """The verdict on any packet."""
        cdef table_t *table
        cdef flow_t *flow
        cdef rule_t *rule
        if cc_unlikely(packet.outcome >= OUTCOME_NOT_IP):
            return self.judge_keyless(packet)
        table = &self.tables[<int>packet.outcome]
        flow = find_flow(table, packet)
        if cc_unlikely(flow == NULL or <uint16_t>flow.endpoints != self.rule_table.generation):
            flow = self.assign_rule(table, flow, packet)
        rule = &self.rule_table.rules[flow.state & STATE_RULE]
        if not rule.touched:
            touch_rule(self.rule_table, rule)
        if cc_likely(rule.simple):
            return judge_simply(
                rule, self.rule_table.buckets, flow, packet.ts_ns, packet.ip_length,
                self.rule_table.averaging_window_ns, &self.time_steps_back,
            )
        return self.judge_fully(table, flow, rule, packet)

    cdef uint8_t judge_keyless(self, const packet_t *packet) noexcept nogil:
        """A packet that has no flow: not IP, or malformed, or a fragment that has none yet."""
        if packet.outcome == OUTCOME_NOT_IP:
            self.rule_table.rules[NO_RULE].packets[FATE_CONFORMING] += 1
            return VERDICT_UNMATCHED
        if packet.outcome == OUTCOME_HELD:
            self.packets -= 1
            return VERDICT_HELD
        self.malformed[<int>packet.outcome] += 1
        return VERDICT_MALFORMED

    cdef uint8_t judge_fully(self, table_t *table, flow_t *flow, rule_t *rule, packet_t *packet) noexcept nogil:
        """Under a rule that is more than one token bucket."""
        cdef treatment_t *treatment = &self.rule_table.treatments[rule.treatment]
        cdef bucket_t *bucket = NULL
        cdef int64_t no_tokens = 0
        cdef int64_t *excess_tokens = &no_tokens
        cdef int64_t ts_ns = packet.ts_ns
        cdef colour_t colour = COLOUR_GREEN
        cdef uint64_t fate
        if rule.limits.cost_of_byte != 0:
            if rule.own_bucket:
                bucket = &flow.bucket
                if table.shift == 7:
                    excess_tokens = &(<wide_flow_t *>flow).excess_tokens
            else:
                bucket = &self.rule_table.buckets[rule.bucket]
                excess_tokens = &self.rule_table.shared[rule.bucket].excess_tokens
        if treatment.colour_aware:
            colour = colour_of_dscp(dscp_of(packet.data + packet.network_offset))
        colour = enforce(
            treatment, &rule.limits, bucket, excess_tokens, self.rule_table.buckets, self.rule_table.shared, ts_ns,
            packet.ip_length, colour, &self.time_steps_back,
        )
        if bucket != &flow.bucket and ts_ns > flow.bucket.latest_ns:
            flow.bucket.latest_ns = ts_ns
        count_flow(flow, packet.ip_length, colour < COLOUR_RED)
        if colour == GATED:
            treatment.gated_packets += 1
            count_gated(rule, ts_ns, packet.ip_length)
            return rule.verdicts[FATE_DROPPED]
        fate = FATE_CONFORMING if colour == COLOUR_GREEN else FATE_YELLOW if colour == COLOUR_YELLOW else rule.above
        count_rule(
            rule, ts_ns, packet.ip_length, fate, -<int64_t>(colour == COLOUR_RED), self.rule_table.averaging_window_ns
        )
        if treatment.marks:
            packet.dscp = treatment.dscp[<int>colour]
        if treatment.shapes and colour != COLOUR_RED:
            packet.departs_ns = departure_ns(bucket, &rule.limits)
            count_delay(treatment, packet.departs_ns - ts_ns)
        return rule.verdicts[fate]

    cdef void note(self, packet_t *packet, uint8_t verdict, uint8_t tcp_flags) noexcept nogil:
        """The journal's part of a packet that has been judged, before the next one can evict its flow."""
        cdef table_t *table = &self.tables[<int>packet.outcome]
        cdef flow_t *flow = find_flow(table, packet)
        cdef rule_t *rule = &self.rule_table.rules[flow.state & STATE_RULE]
        # What a closed gate stops was not above any rate.
        cdef bint excess = (
            (verdict == VERDICT_EXCEEDING or verdict == VERDICT_DROPPED)
            and self.rule_table.treatments[rule.treatment].gate_open
        )
        cdef int64_t passes_ns = packet.ts_ns
        if self.parser.located and packet.departs_ns > packet.ts_ns:
            passes_ns = packet.departs_ns
        note_packet(self.noted, table, flow, packet, passes_ns, tcp_flags, self.passing >> verdict & 1, excess)

    cdef flow_t *assign_rule(self, table_t *table, flow_t *flow, packet_t *packet) noexcept nogil:
        """Classifies a flow that is new (NULL) or was classified under another rule set."""
        cdef rule_table_t *installed = self.rule_table
        cdef const names_t *names = self.seeker.names_of(packet, <int>packet.link_type, self.parser.gtpu_port)
        cdef uint32_t place
        cdef rule_t *rule
        cdef bint stays = False, awaits_name
        place = classify(installed.index, packet, names, &awaits_name)
        rule = &installed.rules[place]
        if flow == NULL:
            if must_make_room(table):
                self.evict(table, packet.ts_ns)
            flow = insert_flow(table, packet)
            if self.noted != NULL:
                record_place(table, flow)[0] = 0
        else:
            stays = flow.state & STATE_RULE == place and generation_of(flow) >= rule.kept_from
        flow.state = place
        flow.endpoints = packet.endpoints | installed.generation | (0 if names.settled else AWAITS_NAME)
        if rule.packets[FATE_CONFORMING] + rule.packets[FATE_YELLOW] + (
            rule.packets[FATE_EXCEEDING] + rule.packets[FATE_DROPPED]
        ) == 0:
            rule.first_ns = packet.ts_ns
        if rule.per_flow:
            self.limit_flow(table, flow, rule, stays)
        elif rule.own_bucket:
            flow.bucket.tokens = 0
        return flow

    cdef void limit_flow(self, table_t *table, flow_t *flow, rule_t *rule, bint stays) noexcept nogil:
        """The limits of a flow's own bucket, which is a new one unless the flow stays under its rule."""
        cdef treatment_t *treatment = &self.rule_table.treatments[rule.treatment]
        cdef int64_t no_tokens = 0
        cdef int64_t *excess_tokens = &(<wide_flow_t *>flow).excess_tokens if table.shift == 7 else &no_tokens
        if stays:
            limit_bucket(
                &flow.bucket, excess_tokens, &rule.limits, &treatment.excess, treatment.owed_at_most
            )
        else:
            fill_bucket(&flow.bucket, &rule.limits)
            excess_tokens[0] = treatment.excess.capacity

    cdef void evict(self, table_t *table, int64_t now_ns) noexcept nogil:
        cdef uint64_t slot = flow_to_evict(table, now_ns)
        if now_ns - flow_at(table, slot).bucket.latest_ns > table.idle_timeout_ns:
            table.aged += 1
        else:
            table.evicted += 1
        if self.noted != NULL:
            forget_flow(self.noted, &table.now.first_ns[slot], now_ns)
        remove_flow(table, slot)

    cdef widen(self):
        """From now on every flow has a wide entry, with room for a second bucket; those that there are move over.

        What has been widened stays so: no flow comes back to a place that it has left.
        """
        cdef table_t *narrow = &self.tables[<int>OUTCOME_NARROW]
        cdef table_t *wide = &self.tables[<int>OUTCOME_WIDE]
        cdef wide_flow_t moving
        cdef packet_t packet
        cdef flow_t *flow
        cdef uint64_t slot
        finish_growing(narrow)
        memset(&moving, 0, sizeof(wide_flow_t))
        packet.addresses6 = moving.addresses6
        packet.attributes[0] = packet.attributes[1] = 0
        for slot in range(narrow.mask + 1):
            flow = flow_at(narrow, slot)
            if flow.endpoints == 0:
                continue
            moving.flow = flow[0]
            packet.addresses = flow.addresses
            packet.endpoints = flow.endpoints & ~<uint64_t>0xFFFF
            packet.hash = flow_hash(wide, &moving.flow)
            packet.ts_ns = narrow.now.first_ns[slot] if narrow.keep_first else 0
            if must_make_room(wide):
                self.evict(wide, flow.bucket.latest_ns)
            insert_flow(wide, &packet)[0] = moving.flow
            wide.created -= 1
            memset(flow, 0, sizeof(flow_t))
        narrow.count = 0
        self.parser.wide = True

    cdef next_generation(self):
        """From now on every flow is classified anew with its next packet."""
        cdef uint64_t slot
        cdef flow_t *flow
        cdef uint32_t place
        cdef int i
        if self.rule_table.generation < LAST_GENERATION:
            self.rule_table.generation += 1
            return
        # The 15 bits are used up: every flow becomes one of generation 0, and every rule one that was there already.
        for i in range(2):
            finish_growing(&self.tables[i])
            for slot in range(self.tables[i].mask + 1):
                flow = flow_at(&self.tables[i], slot)
                if flow.endpoints != 0:
                    if generation_of(flow) < self.rule_table.rules[flow.state & STATE_RULE].kept_from:
                        flow.state = NO_RULE
                    flow.endpoints &= ~<uint64_t>0xFFFF
        for place in range(<uint32_t>len(self.book.rule_names)):
            self.rule_table.rules[place].born = self.rule_table.rules[place].kept_from = 0
        self.rule_table.generation = 1
