"""The user plane on live traffic: tun devices, and what carries packets from one to the other."""
