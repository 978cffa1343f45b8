"""Generated from protos/nf/netapi/v1; never edited. Protobuf package nf.netapi.v1."""
