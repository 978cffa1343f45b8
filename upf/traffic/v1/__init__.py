"""Generated from protos/upf/traffic/v1; never edited. Protobuf package upf.traffic.v1."""
