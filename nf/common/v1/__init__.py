"""Generated from protos/nf/common/v1; never edited. Protobuf package nf.common.v1."""
