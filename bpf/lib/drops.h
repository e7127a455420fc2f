/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_DROPS_H
#define PLUM_DROPS_H

/*
 * Why a packet died. One list: the C enum, the Python enum (generated from
 * this object's BTF), PIPELINE.md's headings and `plumctl drops` all follow it.
 * Append at the end: the numbers are stored in counters that outlive an upgrade.
 */
#define PLUM_DROPS(X)                                                                              \
	X(NOT_PROGRAMMED, "endpoint not programmed yet")                                           \
	X(TRUNCATED, "packet shorter than its headers say")                                        \
	X(MALFORMED, "header field out of range")                                                  \
	X(ETHERTYPE, "neither IPv4, IPv6 nor ARP")                                                 \
	X(SOURCE_MAC, "source MAC is not the endpoint's")                                          \
	X(SOURCE_ADDRESS, "source address is not the endpoint's")                                  \
	X(ARP_SPOOF, "ARP speaks for another host")                                                \
	X(ND_SPOOF, "neighbour discovery speaks for another host")                                 \
	X(ROGUE_DHCP, "DHCP server answer from a tenant")                                          \
	X(ROGUE_RA, "router advertisement or redirect from a tenant")                              \
	X(IP_OPTIONS, "IPv4 source routing")                                                       \
	X(EXTENSION_HEADER, "IPv6 extension header chain refused")                                 \
	X(FRAGMENT_FIRST, "fragment whose first part was not seen")                                \
	X(FRAGMENT_OVERLAP, "fragment overlaps or contradicts the first")                          \
	X(FRAGMENT_TINY, "first fragment too short for its L4 header")                             \
	X(TCP_FLAGS, "impossible TCP flags")                                                       \
	X(TCP_NO_HANDSHAKE, "TCP in mid-flow without a handshake")                                 \
	X(ICMP_UNRELATED, "ICMP error or reply that belongs to no flow")                           \
	X(POLICY_EGRESS, "refused by an egress rule")                                              \
	X(POLICY_INGRESS, "refused by an ingress rule")                                            \
	X(FLOW_QUOTA, "endpoint's flow quota is used up")                                          \
	X(FLOW_TABLE, "flow table refused the entry")                                              \
	X(NO_ROUTE, "router has no route")                                                         \
	X(BLACKHOLE, "route says drop")                                                            \
	X(NO_HOST, "no endpoint has the address")                                                  \
	X(NO_ROUTER, "bridge has no router")                                                       \
	X(ROUTE_LOOP, "too many routers in a row")                                                 \
	X(TTL, "TTL or hop limit ran out")                                                         \
	X(MTU, "larger than the next link")                                                        \
	X(LINK_LOCAL, "link-local or loopback address cannot be routed")                           \
	X(FLOOD_OFF, "bridge does not flood unknown destinations")                                 \
	X(VTEP, "outer source is no VTEP of the zone")                                             \
	X(VXLAN, "VXLAN header refused")                                                           \
	X(VNI, "VNI has no bridge on this node")                                                   \
	X(NOT_HERE, "destination is not on this node")                                             \
	X(NO_PATH, "underlay next hop not resolved")                                               \
	X(PUNT_LIMIT, "responder rate limit")                                                      \
	X(PUNT_FULL, "responder queue full")                                                       \
	X(RESPONDER, "request a responder does not answer")                                        \
	X(TAIL_CALL, "missing pipeline program")                                                   \
	X(HELPER, "kernel refused to resize or move the packet")                                   \
	X(NO_LISTENER, "load balancer does not listen there")                                      \
	X(NO_BACKEND, "load balancer has no backend for it")                                       \
	X(FLOW_CLASH, "another connection has the translated addresses and ports")                 \
	X(NO_GATEWAY, "external network has no gateway alive")                                     \
	X(NO_PUBLIC, "nobody has this public address and port")                                    \
	X(NO_NEIGHBOUR, "MAC of the next hop outside not known yet")                               \
	X(NAT_EXHAUSTED, "no public port left for the endpoint's node")                            \
	X(NAT_PROTOCOL, "source NAT knows no ports of this protocol")                              \
	X(NAT_GONE, "connection's public address was taken away")                                  \
	X(POLICY_ROUTER, "refused by a rule of a router's interface")                              \
	X(LIMIT, "endpoint's rate is used up")

enum plum_drop {
	DROP_NONE,
#define X(name, text) DROP_##name,
	PLUM_DROPS(X)
#undef X
		DROP_MAX
};

#endif /* PLUM_DROPS_H */
