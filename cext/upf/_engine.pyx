"""The compiled user plane, in instructions that every machine of its architecture has."""

include "engine.pxi"
