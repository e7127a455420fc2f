"""Answers to the packets the kernel hands up: DHCPv4, router solicitation, DHCPv6."""
