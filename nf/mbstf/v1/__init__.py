"""Generated from protos/nf/mbstf/v1; never edited. Protobuf package nf.mbstf.v1."""
