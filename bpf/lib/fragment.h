/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_FRAGMENT_H
#define PLUM_FRAGMENT_H

#include "parse.h"

#define FRAG_LIFETIME_NS (30ull * 1000 * 1000 * 1000) /* as Linux's ipfrag_time */

/*
 * stage FRAGMENT: later fragments borrow the ports of their first one, so
 * that a policy on ports judges all of a packet. No first fragment, no
 * passage: out-of-order fragments are lost and the sender tries again. What
 * overlaps the L4 header, or a second first fragment with other ports, is an
 * attempt to show the guest another packet than was judged (RFC 1858, 5722).
 */
static __always_inline int stage_fragment(struct pkt *p)
{
	struct frag_key key = { .ctx = p->ctx, .id = p->frag_id, .proto = p->proto };
	struct frag *seen;

	p->stage = STAGE_FRAGMENT;
	addr_copy(key.saddr, p->saddr);
	addr_copy(key.daddr, p->daddr);
	seen = bpf_map_lookup_elem(&plum_frag, &key);
	if (seen && p->now - seen->seen > FRAG_LIFETIME_NS)
		seen = NULL;
	if (p->frag == FRAG_FIRST) {
		struct frag first = {
			.seen = p->now,
			.sport = p->sport,
			.dport = p->dport,
			.l4_header = (__u16)p->l4_header,
			.policy_port = p->policy_port,
		};

		if (seen && (seen->sport != p->sport || seen->dport != p->dport ||
			     seen->policy_port != p->policy_port))
			return DROP(FRAGMENT_OVERLAP);
		if (p->l4_bytes < p->l4_header)
			return DROP(FRAGMENT_TINY);
		bpf_map_update_elem(&plum_frag, &key, &first, BPF_ANY);
		return NEXT;
	}
	if (!seen)
		return DROP(FRAGMENT_FIRST);
	if (p->frag_off < seen->l4_header)
		return DROP(FRAGMENT_OVERLAP);
	p->sport = seen->sport;
	p->dport = seen->dport;
	p->policy_port = seen->policy_port;
	switch (p->proto) {
	case IPPROTO_TCP:
		p->policy_proto = PROTO_TCP;
		break;
	case IPPROTO_UDP:
		p->policy_proto = PROTO_UDP;
		break;
	case NEXTHDR_SCTP:
		p->policy_proto = PROTO_SCTP;
		break;
	case IPPROTO_ICMP:
		p->policy_proto = PROTO_ICMP;
		break;
	case IPPROTO_ICMPV6:
		p->policy_proto = PROTO_ICMP6;
		break;
	default:
		p->policy_proto = PROTO_OTHER;
	}
	return NEXT;
}

#endif /* PLUM_FRAGMENT_H */
