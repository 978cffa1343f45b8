"""The user plane: detection, policing, measurement; pcap replay; N4 control."""
