"""The C header beside this file, as Cython sees it."""


cdef extern from "door.h" nogil:
    ctypedef struct cc_door_t:
        pass

    int cc_open_door(cc_door_t *door)
    bint cc_enter(cc_door_t *door)
    void cc_enter_when_free(cc_door_t *door)
    void cc_leave(cc_door_t *door)
