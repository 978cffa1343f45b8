"""Generated from protos/nf/smf/v1; never edited. Protobuf package nf.smf.v1."""
