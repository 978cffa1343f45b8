"""Domain names of flows (the domain name of TS 29.244 §8.2.39): how a flow's names are found, and patterns of them."""
