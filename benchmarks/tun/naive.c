/*
 * The plainest bump in the wire: two tun devices without offloads, a packet a read, a packet a write, a thread for
 * each direction. It looks at nothing.
 *
 * naive INTERFACE@NETNS INTERFACE@NETNS: a line of JSON once the devices are there; works until it is ended.
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LONGEST 65536

struct direction {
    int source, sink;
};

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int open_tun(char *place)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    char path[256], *netns = strchr(place, '@');
    int namespace, device;

    if (netns == NULL) {
        fprintf(stderr, "naive: expected INTERFACE@NETNS, got %s\n", place);
        exit(2);
    }
    *netns++ = '\0';
    snprintf(path, sizeof path, "/run/netns/%s", netns);
    if ((namespace = open(path, O_RDONLY)) < 0 || setns(namespace, CLONE_NEWNET) != 0)
        fail(path);
    close(namespace);
    if ((device = open("/dev/net/tun", O_RDWR)) < 0)
        fail("/dev/net/tun");
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", place);
    if (ioctl(device, TUNSETIFF, &request) != 0)
        fail(place);
    return device;
}

static void *forward(void *argument)
{
    struct direction *direction = argument;
    static __thread char packet[LONGEST];
    ssize_t length;

    while ((length = read(direction->source, packet, sizeof packet)) > 0)
        if (write(direction->sink, packet, length) != length)
            continue; /* the device is down, or has no room */
    perror("naive: read");
    return NULL;
}

int main(int count, char **words)
{
    struct direction uplink, downlink;
    pthread_t thread;

    if (count != 3) {
        fprintf(stderr, "usage: naive INTERFACE@NETNS INTERFACE@NETNS\n");
        return 2;
    }
    uplink.source = downlink.sink = open_tun(words[1]);
    downlink.source = uplink.sink = open_tun(words[2]);
    if (pthread_create(&thread, NULL, forward, &uplink) != 0)
        fail("thread");
    puts("{\"ready\": true}");
    fflush(stdout);
    forward(&downlink);
    return 1;
}
