/* What Cython cannot say: prefetch, byte order, wide multiplication, branch hints. */
#ifndef CASTCORE_INTRINSICS_H
#define CASTCORE_INTRINSICS_H

#include <stdint.h>
#include <string.h>

#define cc_prefetch(address) __builtin_prefetch((const void *)(address), 1, 3)

#endif
