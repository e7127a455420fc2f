/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_PUNT_H
#define PLUM_PUNT_H

#include "port_security.h"

#define SECOND_NS (1000ull * 1000 * 1000)

#define DNS_PORT 53

static __always_inline bool punt_allowed(const struct pkt *p, enum punt_kind kind)
{
	const struct config *cfg = config();
	__u32 slot = p->in_slot;
	struct punt_rate *rate = bpf_map_lookup_elem(&plum_punt_rate, &slot);

	if (!cfg || !rate)
		return false;
	if (p->now - rate->window > SECOND_NS) {
		rate->window = p->now;
		rate->count = 0;
		rate->dns = 0;
	}
	if (kind == PUNT_DNS)
		return __sync_fetch_and_add(&rate->dns, 1) < cfg->dns_per_s;
	return __sync_fetch_and_add(&rate->count, 1) < cfg->punt_per_s;
}

static __always_inline int punt_frame(struct __sk_buff *skb, const struct pkt *p,
				      enum punt_kind kind, __u32 slot)
{
	__u32 len = skb->len;
	struct punt *to;

	if (len > PLUM_PUNT_BYTES)
		return DROP(RESPONDER);
	to = bpf_ringbuf_reserve(&plum_punt, sizeof(*to), 0);
	if (!to)
		return DROP(PUNT_FULL);
	to->kind = kind;
	to->ifindex = p->in_ifindex;
	to->slot = slot;
	to->len = len;
	/* The verifier wants to see a bound it can follow. */
	if (len < 1 || bpf_skb_load_bytes(skb, 0, to->frame, ((len - 1) & 0x7ff) + 1) < 0) {
		bpf_ringbuf_discard(to, 0);
		return DROP(TRUNCATED);
	}
	bpf_ringbuf_submit(to, 0);
	return CONSUMED;
}

static __always_inline int punt(struct __sk_buff *skb, struct pkt *p, enum punt_kind kind)
{
	return punt_allowed(p, kind) ? punt_frame(skb, p, kind, p->in_slot) : DROP(PUNT_LIMIT);
}

/* Is it for port 53 of a gateway of the sender's bridge? */
static __always_inline bool asks_for_name(const struct pkt *p)
{
	struct host_key key = { .domain = p->domain };
	const struct host *host;

	if (!(p->in_flags & EP_DNS) || p->dport != bpf_htons(DNS_PORT) ||
	    (p->proto != IPPROTO_UDP && p->proto != IPPROTO_TCP))
		return false;
	addr_copy(key.addr, p->daddr);
	host = bpf_map_lookup_elem(&plum_host, &key);
	return host && host->router && host->vni == p->in_vni && mac_equal(p->dmac, host->mac);
}

/* stage PUNT: DHCP, DNS and router solicitations go to plumd's responders. */
static __always_inline int stage_punt(struct __sk_buff *skb, struct pkt *p)
{
	p->stage = STAGE_PUNT;
	if (p->frag)
		return NEXT;
	if (p->proto == IPPROTO_UDP) {
		if (p->family == 4 && p->sport == bpf_htons(DHCP4_CLIENT) &&
		    p->dport == bpf_htons(DHCP4_SERVER))
			return p->in_flags & EP_DHCP4 ? punt(skb, p, PUNT_DHCP4) : DROP(RESPONDER);
		if (p->family == 6 && p->sport == bpf_htons(DHCP6_CLIENT) &&
		    p->dport == bpf_htons(DHCP6_SERVER))
			return p->in_flags & EP_DHCP6 ? punt(skb, p, PUNT_DHCP6) : DROP(RESPONDER);
	}
	if (asks_for_name(p))
		return punt(skb, p, PUNT_DNS);
	if (p->proto == IPPROTO_ICMPV6 && p->icmp_type == ND_ROUTER_SOLICIT)
		return p->in_flags & EP_DHCP6 ? punt(skb, p, PUNT_RS) : CONSUMED; /* no router */
	return NEXT;
}

#endif /* PLUM_PUNT_H */
