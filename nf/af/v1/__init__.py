"""Generated from protos/nf/af/v1; never edited. Protobuf package nf.af.v1."""
