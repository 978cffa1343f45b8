"""Generated from protos/nf/pcf/v1; never edited. Protobuf package nf.pcf.v1."""
