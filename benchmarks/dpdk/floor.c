/*
 * The floor: a pass that reads each record's header, a cache line of its packet and one cache line of a table, at a
 * place that the packet's addresses and ports choose, and writes nothing.
 *
 * floor CAPTURE FLOWS: the table has 64 bytes for each flow. A line of JSON once it is ready and after each pass, which
 * a line of standard input asks for.
 */
#define _GNU_SOURCE

#include "capture.h"

#define LINE 64

static uint64_t run_pass(struct capture capture, const uint64_t *table, uint64_t flows, uint64_t *packets)
{
    uint64_t sum = 0, count = 0;

    for (const uint8_t *at = capture.begin; at + RECORD_HEADER <= capture.end; count++) {
        struct record_header record;
        uint64_t addresses, place;
        uint32_t ports;

        memcpy(&record, at, sizeof record);
        memcpy(&addresses, at + RECORD_HEADER + 26, sizeof addresses);
        memcpy(&ports, at + RECORD_HEADER + 34, sizeof ports);
        __builtin_prefetch(at + AHEAD);
        place = (addresses ^ ((uint64_t)ports << 32 | ports)) * 0x9e3779b97f4a7c15ULL;
        place = (uint64_t)(((unsigned __int128)place * flows) >> 64);
        sum += record.nanoseconds + table[place * (LINE / sizeof *table)];
        at += RECORD_HEADER + record.captured;
    }
    *packets = count;
    return sum;
}

int main(int argc, char **argv)
{
    struct capture capture;
    struct stopwatch took;
    const uint64_t *table;
    uint64_t flows, packets, sum;

    if (argc != 3)
        fail("usage", "floor CAPTURE FLOWS");
    flows = strtoull(argv[2], NULL, 10);
    if (flows < 1)
        fail("flows", "expected at least one");
    capture = read_capture(argv[1]);
    table = huge_alloc(flows * LINE);
    sum = run_pass(capture, table, flows, &packets);
    printf("{\"packets\": %llu}\n", (unsigned long long)packets);
    while (pass_wanted()) {
        took = start_stopwatch();
        sum += run_pass(capture, table, flows, &packets);
        took = stop_stopwatch(took);
        /* The sum is said so that it has to be had. */
        printf("{\"wall_ns\": %llu, \"core_ns\": %llu, \"sum\": %llu}\n", (unsigned long long)took.wall_ns,
            (unsigned long long)took.core_ns, (unsigned long long)sum);
    }
    return 0;
}
