/*
 * DPDK's libraries at castcore's work: rte_hash finds the flow of each packet of a capture in memory, rte_meter
 * (srTCM, RFC 2697, colour-blind) judges it by the flow's own bucket at the time that the capture gives, and the flow
 * counts packets and bytes by verdict. Bytes are IP total lengths.
 *
 * meter CAPTURE FLOWS RATE_BPS BURST_BYTES [EAL arguments]: a line of JSON once it is ready and after each pass, which a
 * line of standard input asks for. Each pass is so much later than the one before that every bucket is full again.
 */
#define _GNU_SOURCE

#include "capture.h"

#include <sched.h>

#include <rte_byteorder.h>
#include <rte_eal.h>
#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_malloc.h>
#include <rte_memory.h>
#include <rte_meter.h>
#include <rte_prefetch.h>
#include <rte_version.h>

#define BATCH 64 /* what one bulk look-up takes at the most; 32 and 16 are slower */
#define LOAD 2 /* places in the hash table for each flow */
#define ETHERNET 14
#define IPV4 0x0800
#define TCP 6
#define UDP 17
/* Cycles are counted by a multiplication for the whole seconds and one for the nanoseconds. */
#define NS_SHIFT 30
#define HEAP "transparent huge pages"

/* 13 bytes of 5-tuple; with 16, rte_hash compares by one SSE instruction and hashes by two. */
struct key {
    uint64_t addresses, endpoints; /* ports in the lower half, the protocol above */
};

struct flow {
    struct rte_meter_srtcm meter;
    uint64_t packets[2], bytes[2]; /* [0] passed, [1] dropped */
} __rte_cache_aligned;

struct packet {
    uint64_t cycles;
    uint32_t length;
};

struct run {
    struct capture capture;
    struct rte_hash *hash;
    struct flow *flows;
    uint32_t places;
    struct rte_meter_srtcm_profile profile;
    uint64_t packets, other, unknown;
    uint64_t first_second, last_ns, hz, ns_to_cycles, offset_cycles;
};

struct batch {
    struct key keys[BATCH];
    const void *pointers[BATCH];
    hash_sig_t signatures[BATCH];
    struct packet packets[BATCH];
    int32_t places[BATCH];
    uint32_t count;
};

/* The 5-tuple and IP total length of a frame; 0 where it is not IPv4 with ports. */
static inline int parse(const uint8_t *frame, uint32_t captured, struct key *key, uint32_t *length)
{
    const uint8_t *ip = frame + ETHERNET, *transport;
    uint16_t field, fragment;
    uint32_t ports;

    if (unlikely(captured < ETHERNET + 20 + 4))
        return 0;
    memcpy(&field, frame + 12, sizeof field);
    if (unlikely(field != rte_cpu_to_be_16(IPV4) || ip[0] >> 4 != 4))
        return 0;
    transport = ip + (ip[0] & 15) * 4;
    memcpy(&fragment, ip + 6, sizeof fragment);
    if (unlikely(transport + 4 > frame + captured || (fragment & rte_cpu_to_be_16(0x1fff))))
        return 0;
    if (unlikely(ip[9] != UDP && ip[9] != TCP))
        return 0;
    memcpy(&field, ip + 2, sizeof field);
    *length = rte_be_to_cpu_16(field);
    memcpy(&key->addresses, ip + 12, sizeof key->addresses);
    memcpy(&ports, transport, sizeof ports);
    key->endpoints = ports | (uint64_t)ip[9] << 32;
    return 1;
}

/* rte_hash_crc() of a key, from registers: its loads would wait for the key's stores. */
static inline hash_sig_t signature(const struct key *key)
{
    return rte_hash_crc_8byte(key->endpoints, rte_hash_crc_8byte(key->addresses, 0));
}

static inline uint64_t cycles_at(const struct run *run, const struct record_header *record)
{
    return run->offset_cycles + (record->seconds - run->first_second) * run->hz
        + ((record->nanoseconds * run->ns_to_cycles) >> NS_SHIFT);
}

/* The next packets of the capture, and their flows as far as they can be had without waiting for memory. */
static inline const uint8_t *gather(struct run *run, const uint8_t *at, struct batch *batch)
{
    struct record_header record;
    uint32_t count = 0;

    while (count < BATCH && at + RECORD_HEADER <= run->capture.end) {
        const uint8_t *frame = at + RECORD_HEADER;

        memcpy(&record, at, sizeof record);
        rte_prefetch0(at + AHEAD);
        if (likely(parse(frame, record.captured, &batch->keys[count], &batch->packets[count].length))) {
            batch->signatures[count] = signature(&batch->keys[count]);
            batch->packets[count].cycles = cycles_at(run, &record);
            count++;
        } else {
            run->other++;
        }
        at = frame + record.captured;
    }
    batch->count = count;
    return at;
}

static inline void find(struct run *run, struct batch *batch)
{
    rte_hash_lookup_with_hash_bulk(run->hash, batch->pointers, batch->signatures, batch->count, batch->places);
    for (uint32_t i = 0; i < batch->count; i++)
        rte_prefetch0(&run->flows[batch->places[i] < 0 ? 0 : batch->places[i]]);
}

static inline void judge(struct run *run, struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct packet *packet = &batch->packets[i];
        struct flow *flow;
        int dropped;

        if (unlikely(batch->places[i] < 0)) {
            run->unknown++;
            continue;
        }
        flow = &run->flows[batch->places[i]];
        dropped = rte_meter_srtcm_color_blind_check(&flow->meter, &run->profile, packet->cycles, packet->length)
            != RTE_COLOR_GREEN;
        flow->packets[dropped]++;
        flow->bytes[dropped] += packet->length;
    }
    run->packets += batch->count;
}

static void begin_batch(struct batch *batch)
{
    memset(batch, 0, sizeof *batch);
    for (int i = 0; i < BATCH; i++)
        batch->pointers[i] = &batch->keys[i];
}

static void run_pass(struct run *run)
{
    struct batch batch;
    const uint8_t *at = run->capture.begin;

    begin_batch(&batch);
    while (at + RECORD_HEADER <= run->capture.end) {
        at = gather(run, at, &batch);
        find(run, &batch);
        judge(run, &batch);
    }
}

/* Every flow of the capture gets its place. Returns how many there are. */
static uint64_t add_flows(struct run *run)
{
    struct record_header record;
    struct key key;
    uint32_t length;
    uint64_t ns;

    memcpy(&record, run->capture.begin, sizeof record);
    run->first_second = record.seconds;
    for (const uint8_t *at = run->capture.begin; at + RECORD_HEADER <= run->capture.end;) {
        memcpy(&record, at, sizeof record);
        ns = (record.seconds - run->first_second) * NANOSECONDS + record.nanoseconds;
        run->last_ns = ns > run->last_ns ? ns : run->last_ns;
        if (parse(at + RECORD_HEADER, record.captured, &key, &length) && rte_hash_add_key(run->hash, &key) < 0)
            fail("rte_hash_add_key", "the table is full");
        at += RECORD_HEADER + record.captured;
    }
    return (uint64_t)rte_hash_count(run->hash);
}

static uint64_t free_huge_pages(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "r");

    if (file == NULL)
        return 0;
    if (fscanf(file, "%llu", &pages) != 1)
        pages = 0;
    fclose(file);
    return pages;
}

/* Kilobytes of this process that transparent huge pages hold. */
static uint64_t transparent_kilobytes(void)
{
    char line[256];
    unsigned long long kilobytes, sum = 0;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");

    if (file == NULL)
        return 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "AnonHugePages: %llu kB", &kilobytes) == 1
            || sscanf(line, "ShmemPmdMapped: %llu kB", &kilobytes) == 1)
            sum += kilobytes;
    fclose(file);
    return sum;
}

/* The EAL of one core, without devices. */
static void begin_eal(uint64_t megabytes, int huge, int argc, char **argv)
{
    char memory[32];
    char *arguments[32] = {"meter", "--no-pci", "--no-telemetry", "--log-level=error", "-l", NULL, "-m", memory};
    char core[16];
    int count = 8;
    cpu_set_t cores;

    snprintf(memory, sizeof memory, "%llu", (unsigned long long)megabytes);
    CPU_ZERO(&cores);
    sched_getaffinity(0, sizeof cores, &cores);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &cores))
            snprintf(core, sizeof core, "%d", i);
    arguments[5] = core;
    if (huge) {
        arguments[count++] = "--in-memory";
    } else {
        arguments[count++] = "--no-huge";
        arguments[count++] = "--no-shconf";
    }
    for (int i = 0; i < argc && count < 31; i++)
        arguments[count++] = argv[i];
    if (rte_eal_init(count, arguments) < 0)
        fail("rte_eal_init", rte_strerror(rte_errno));
}

/* Without reserved huge pages the EAL has small ones: a heap of its own then, on transparent ones. Returns its socket. */
static int transparent_heap(size_t bytes)
{
    bytes = (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    if (rte_malloc_heap_create(HEAP) != 0
        || rte_malloc_heap_memory_add(HEAP, huge_alloc(bytes), bytes, NULL, 0, HUGE_PAGE) != 0)
        fail("rte_malloc_heap_memory_add", rte_strerror(rte_errno));
    return rte_malloc_heap_get_socket(HEAP);
}

/* Full meters, and counters at nothing. */
static void begin_flows(struct run *run)
{
    for (uint32_t place = 0; place <= run->places; place++) {
        memset(&run->flows[place], 0, sizeof run->flows[place]);
        rte_meter_srtcm_config(&run->flows[place].meter, &run->profile);
    }
    run->offset_cycles = rte_get_tsc_cycles();
}

static void print_counters(const struct run *run)
{
    uint64_t packets[2] = {0, 0}, bytes[2] = {0, 0};

    for (uint32_t place = 0; place <= run->places; place++)
        for (int dropped = 0; dropped < 2; dropped++) {
            packets[dropped] += run->flows[place].packets[dropped];
            bytes[dropped] += run->flows[place].bytes[dropped];
        }
    printf("\"packets\": %llu, \"passed_packets\": %llu, \"passed_bytes\": %llu, ",
        (unsigned long long)(packets[0] + packets[1]), (unsigned long long)packets[0], (unsigned long long)bytes[0]);
    printf("\"dropped_packets\": %llu, \"dropped_bytes\": %llu, ", (unsigned long long)packets[1],
        (unsigned long long)bytes[1]);
}

int main(int argc, char **argv)
{
    static struct run run;
    struct stopwatch took;
    struct rte_hash_parameters table = {.name = "flows", .key_len = sizeof(struct key), .hash_func = rte_hash_crc};
    struct rte_meter_srtcm_params limits = {0};
    uint64_t bound, rate_bps, megabytes, transparent, shift_cycles, flows;
    int huge;

    if (argc < 5)
        fail("usage", "meter CAPTURE FLOWS RATE_BPS BURST_BYTES [EAL arguments]");
    bound = strtoull(argv[2], NULL, 10);
    rate_bps = strtoull(argv[3], NULL, 10);
    limits.cir = rate_bps / 8;
    limits.cbs = strtoull(argv[4], NULL, 10);
    if (bound < 1 || limits.cir < 1 || limits.cbs < 1)
        fail("arguments", "expected at least one flow, 8 bit/s and one byte");
    run.capture = read_capture(argv[1]);
    transparent = transparent_kilobytes();

    /* Less than half full: cuckoo look-ups then rarely need their second place. */
    run.places = bound * LOAD < 64 ? 64 : bound * LOAD;
    table.entries = run.places;
    megabytes = 64 + (uint64_t)run.places * 160 / 1000000;
    huge = free_huge_pages() * 2 >= megabytes + 8;
    begin_eal(huge ? megabytes : 64, huge, argc - 5, argv + 5);
    table.socket_id = huge ? SOCKET_ID_ANY : transparent_heap(megabytes << 20);
    run.hash = rte_hash_create(&table);
    run.flows = rte_zmalloc_socket(
        "flows", (size_t)(run.places + 1) * sizeof *run.flows, RTE_CACHE_LINE_SIZE, table.socket_id);
    if (run.hash == NULL || run.flows == NULL)
        fail("memory for the flows", rte_strerror(rte_errno));
    run.hz = rte_get_tsc_hz();
    run.ns_to_cycles = (uint64_t)(((unsigned __int128)run.hz << NS_SHIFT) / NANOSECONDS);
    if (rte_meter_srtcm_profile_config(&run.profile, &limits) != 0)
        fail("rte_meter_srtcm_profile_config", "refused the rate or the burst");
    flows = add_flows(&run);
    /* Later than any packet of the pass before, and by so much that every meter is full. */
    shift_cycles = (run.last_ns / NANOSECONDS + limits.cbs / limits.cir + 2) * run.hz;

    begin_flows(&run);
    run_pass(&run);
    printf("{\"packets\": %llu, \"flows\": %llu, \"other\": %llu, \"unknown\": %llu, ", (unsigned long long)run.packets,
        (unsigned long long)flows, (unsigned long long)run.other, (unsigned long long)run.unknown);
    printf("\"pages\": \"%s\", \"version\": \"%s\"}\n",
        huge ? "huge" : transparent_kilobytes() > transparent + (megabytes << 9) ? "transparent huge" : "4 KB", rte_version());
    while (pass_wanted()) {
        run.offset_cycles += shift_cycles;
        for (uint32_t place = 0; place <= run.places; place++)
            memset(run.flows[place].packets, 0, sizeof run.flows[place].packets + sizeof run.flows[place].bytes);
        took = start_stopwatch();
        run_pass(&run);
        took = stop_stopwatch(took);
        printf("{");
        print_counters(&run);
        printf("\"wall_ns\": %llu, \"core_ns\": %llu}\n", (unsigned long long)took.wall_ns,
            (unsigned long long)took.core_ns);
    }
    rte_eal_cleanup();
    return 0;
}
