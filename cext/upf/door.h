/* A door for one thread at a time, whether or not an interpreter lock stands before it.
 *
 * Who is inside has the priority of whoever waits outside: packets do not wait for a thread that waits for a processor.
 */
#ifndef CASTCORE_DOOR_H
#define CASTCORE_DOOR_H

#include <pthread.h>

typedef pthread_mutex_t cc_door_t;

static inline int cc_open_door(cc_door_t *door)
{
    pthread_mutexattr_t kind;
    int failed = pthread_mutexattr_init(&kind);
    if (!failed)
        failed = pthread_mutexattr_setprotocol(&kind, PTHREAD_PRIO_INHERIT);
    return failed ? failed : pthread_mutex_init(door, &kind);
}

/* Whether one is inside now; nobody is waited for. */
static inline int cc_enter(cc_door_t *door) { return !pthread_mutex_trylock(door); }
static inline void cc_enter_when_free(cc_door_t *door) { pthread_mutex_lock(door); }
static inline void cc_leave(cc_door_t *door) { pthread_mutex_unlock(door); }

#endif
