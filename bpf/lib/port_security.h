/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_PORT_SECURITY_H
#define PLUM_PORT_SECURITY_H

#include "parse.h"

#define DHCP4_CLIENT 68
#define DHCP4_SERVER 67
#define DHCP6_CLIENT 546
#define DHCP6_SERVER 547

/* May the endpoint in `slot` send as this pair of MAC and address? */
static __always_inline bool source_allowed(__u32 slot, const __u8 *mac, const __be32 *addr)
{
	struct source_key key = { .prefixlen = 96 + 128, .slot = slot };

	__builtin_memcpy(key.mac, mac, 6);
	addr_copy(key.addr, addr);
	return bpf_map_lookup_elem(&plum_source, &key);
}

/* Loads what the slow path needs of a sending endpoint's row. */
static __always_inline int load_sender(struct pkt *p, const struct ep *ep)
{
	p->in_slot = ep->slot;
	p->in_vni = ep->vni;
	p->in_flags = ep->flags;
	p->in_quota = ep->flow_quota;
	p->in_ingress_set = ep->ingress_set;
	p->in_egress_set = ep->egress_set;
	p->domain = ep->domain;
	return NEXT;
}

/* Packets that only a network's own servers send. A later fragment cannot be
 * told apart, but its first one never passes. */
static __always_inline int refuse_servers(const struct pkt *p)
{
	if (p->frag == FRAG_LATER)
		return NEXT;
	if (p->proto == IPPROTO_UDP) {
		if (p->family == 4 && p->sport == bpf_htons(DHCP4_SERVER))
			return DROP(ROGUE_DHCP);
		if (p->family == 6 && p->sport == bpf_htons(DHCP6_SERVER))
			return DROP(ROGUE_DHCP);
	}
	if (p->proto == IPPROTO_ICMPV6 &&
	    (p->icmp_type == ND_ROUTER_ADVERT || p->icmp_type == ND_REDIRECT))
		return DROP(ROGUE_RA);
	if (p->proto == IPPROTO_ICMP && p->icmp_type == ICMP_REDIRECT)
		return DROP(ROGUE_RA);
	return NEXT;
}

/* A host that has no address yet may ask for one, and ask whether one is free. */
static __always_inline bool may_lack_source(const struct pkt *p)
{
	if (p->frag == FRAG_LATER)
		return false;
	if (p->family == 4)
		return p->saddr[3] == 0 && p->proto == IPPROTO_UDP &&
		       p->dport == bpf_htons(DHCP4_SERVER);
	return addr_is_zero(p->saddr) && p->proto == IPPROTO_ICMPV6 &&
	       addr_is_multicast(6, p->daddr) &&
	       (p->nd || p->listener || p->icmp_type == ND_ROUTER_SOLICIT);
}

/* stage PORT_SECURITY: an endpoint speaks only for itself. */
static __always_inline int stage_port_security(struct pkt *p, const struct ep *ep)
{
	int rc;

	p->stage = STAGE_PORT_SECURITY;
	if (mac_is_group(p->smac))
		return DROP(SOURCE_MAC);
	if (!p->family)
		return NEXT; /* ARP: stage ARP_ND checks its claims */
	rc = refuse_servers(p);
	if (rc)
		return rc;
	if (may_lack_source(p))
		return mac_equal(p->smac, ep->mac) ? NEXT : DROP(SOURCE_MAC);
	if (source_allowed(p->in_slot, p->smac, p->saddr)) /* a host keeps what it says to itself */
		return addr_equal(p->saddr, p->daddr) ? DROP(MALFORMED) : NEXT;
	return source_allowed(p->in_slot, ep->mac, p->saddr) ? DROP(SOURCE_MAC)
							     : DROP(SOURCE_ADDRESS);
}

#endif /* PLUM_PORT_SECURITY_H */
