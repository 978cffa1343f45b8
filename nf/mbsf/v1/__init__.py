"""Generated from protos/nf/mbsf/v1; never edited. Protobuf package nf.mbsf.v1."""
