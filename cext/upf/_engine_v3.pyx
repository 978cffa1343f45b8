"""The compiled user plane, in the instructions of x86-64-v3; `upf.engine` chooses."""

include "engine.pxi"
