/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_BALANCE_H
#define PLUM_BALANCE_H

#include "flow.h"
#include "forward.h"
#include "icmp_error.h"
#include "maglev.h"

#define CHECK_PORTS   64512 /* and above: where plumd's health checks come from */
#define BACKEND_TRIES 4	    /* when the choice falls on the client itself */

/* The backend of a connection that has one already: it keeps it. */
static __always_inline bool keep_backend(struct pkt *p)
{
	const struct config *cfg = config();
	const struct flow *f;
	struct tuple t;

	tuple_of(p, &t);
	f = flow_get(&t);
	if (!cfg || !f || !(f->flags & FLOW_NEW_DST) || f->state == FLOW_CLOSED ||
	    flow_idle(cfg, f, p->proto, p->now))
		return false;
	load_translation(p, f);
	return true;
}

/* Never the client itself: it could not tell the answer from its question. */
static __always_inline int choose_backend(struct pkt *p, const struct vip *vip)
{
	__u32 slot = backend_slot(p, vip->flags);

	for (__u32 i = 0; i < BACKEND_TRIES; i++) {
		const struct backend *b = backend_at(vip->backends, slot);

		if (!b)
			break;
		if (!addr_equal(b->addr, p->saddr)) {
			p->translate = FLOW_NEW_DST;
			addr_copy(p->new_addr, b->addr);
			p->new_port = vip->to_port;
			return NEXT;
		}
		slot = (slot + MAGLEV_SLOTS / 3 + i) % MAGLEV_SLOTS;
	}
	return unreachable(p, DROP(NO_BACKEND), UNREACH_PORT, UNREACH6_PORT);
}

static __always_inline const struct host *backend_host(const struct pkt *p)
{
	struct host_key key = { .domain = p->domain };
	const struct host *host;

	addr_copy(key.addr, p->new_addr);
	host = bpf_map_lookup_elem(&plum_host, &key);
	return host && !host->router && !host->balancer ? host : NULL;
}

/* The way to the backend, on whatever bridge of the domain it is. The frame
 * comes from the load balancer's MAC, 02:6c and its id. */
static __always_inline int way_to_backend(struct __sk_buff *skb, struct pkt *p,
					  const struct host *host)
{
	int rc;

	p->routed = true;
	p->out_smac[0] = 0x02;
	p->out_smac[1] = 0x6c;
	p->out_smac[2] = (__u8)(p->balancer >> 24);
	p->out_smac[3] = (__u8)(p->balancer >> 16);
	p->out_smac[4] = (__u8)(p->balancer >> 8);
	p->out_smac[5] = (__u8)p->balancer;
	rc = set_out(p, host->ifindex, host->node, host->vni, host->mac);
	return rc ? rc : check_mtu(skb, p);
}

/* A neighbour may send anything to the load balancer's MAC. */
static __always_inline bool is_virtual(const struct pkt *p)
{
	struct host_key key = { .domain = p->domain };
	const struct host *host;

	addr_copy(key.addr, p->daddr);
	host = bpf_map_lookup_elem(&plum_host, &key);
	return host && host->balancer == p->balancer;
}

/* What a backend answers to a health check: plumd has heard it on the device, and the
 * backend must not hear that nobody listens. */
static __always_inline bool answers_check(const struct pkt *p)
{
	struct vip_key key = { .domain = p->domain };

	if (bpf_ntohs(p->dport) < CHECK_PORTS ||
	    !(p->proto == IPPROTO_UDP || p->tcp_flags & (TCP_ACK | TCP_RST)))
		return false;
	addr_copy(key.addr, p->daddr);
	return bpf_map_lookup_elem(&plum_vip, &key);
}

/*
 * stage LOAD_BALANCE: a packet to a virtual address, on the client's node. A
 * connection keeps its backend; a new one gets what the Maglev table says, so
 * that other nodes would choose the same, and few connections move when a
 * backend comes or goes. Answers come straight from the backend and get the
 * virtual address back here (FLOW_NEW_SRC).
 */
static __always_inline int stage_load_balance(struct __sk_buff *skb, struct pkt *p)
{
	struct vip_key key = { .domain = p->domain, .port = p->dport, .proto = p->proto };
	const struct host *host = NULL;
	const struct vip *vip;
	int rc;

	p->stage = STAGE_LOAD_BALANCE;
	if (p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6)
		return is_virtual(p) ? answer_as_router(skb, p) : DROP(NO_LISTENER);
	if (keep_backend(p))
		host = backend_host(p);
	if (!host) {
		addr_copy(key.addr, p->daddr);
		vip = bpf_map_lookup_elem(&plum_vip, &key);
		if (!vip && answers_check(p))
			return CONSUMED;
		if (!vip)
			return unreachable(p, DROP(NO_LISTENER), UNREACH_PORT, UNREACH6_PORT);
		rc = choose_backend(p, vip);
		if (rc)
			return rc;
		host = backend_host(p);
	}
	if (!host)
		return unreachable(p, DROP(NO_BACKEND), UNREACH_PORT, UNREACH6_PORT);
	return way_to_backend(skb, p, host);
}

#endif /* PLUM_BALANCE_H */
