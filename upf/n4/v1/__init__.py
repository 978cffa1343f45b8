"""Generated from protos/upf/n4/v1; never edited. Protobuf package upf.n4.v1."""
