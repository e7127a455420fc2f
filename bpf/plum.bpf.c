// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * The datapath's programs. Two are attached to devices; the others are reached
 * by tail call and share the packet in plum_scratch:
 *
 *   plum_from_ep  --miss-->  plum_slow_ep  \
 *   plum_from_ul  --miss-->  plum_slow_ul   >--> plum_judge --> plum_send
 *                                 |    \--> plum_flood_out
 *                                 |\------> plum_balance --> plum_judge
 *                                 \-------> plum_error
 *
 * plum_judge sends what leaves the zone through plum_nat_out. What comes back, and
 * what a gateway does, is in outside.h. Everything an established connection needs is
 * in the first two (fast.h, fast_gateway.h).
 */
#include "lib/arp_nd.h"
#include "lib/balance.h"
#include "lib/deliver.h"
#include "lib/fast_gateway.h"
#include "lib/finish.h"
#include "lib/flood.h"
#include "lib/flow.h"
#include "lib/forward.h"
#include "lib/fragment.h"
#include "lib/gc.h"
#include "lib/icmp_error.h"
#include "lib/limit.h"
#include "lib/nat.h"
#include "lib/outside.h"
#include "lib/policy.h"
#include "lib/probe.h"
#include "lib/punt.h"

/* Bridge, route, answer or replicate an endpoint's packet. */
static __always_inline int forward_from_ep(struct __sk_buff *skb, struct pkt *p)
{
	struct mac_key key = { .vni = p->in_vni };
	const struct port *port;
	bool to_router = false;
	int rc;

	if (mac_is_group(p->dmac))
		return go(skb, TAIL_FLOOD);
	__builtin_memcpy(key.mac, p->dmac, 6);
	port = bpf_map_lookup_elem(&plum_mac, &key);
	if (!port)
		return go(skb, TAIL_FLOOD);
	p->near_vni = p->in_vni;
	if (port->balancer) {
		p->balancer = port->balancer;
		return p->family ? go(skb, TAIL_BALANCE) : CONSUMED; /* ARP to it alone */
	}
	if (!port->router) {
		rc = stage_bridge(skb, p, port);
		if (rc)
			return rc;
		return p->family ? go(skb, TAIL_JUDGE) : go(skb, TAIL_SEND);
	}
	if (!p->family)
		return CONSUMED; /* ARP told to a router, which asks nobody */
	rc = stage_route(skb, p, port->router, &to_router);
	if (rc)
		return rc;
	if (to_router)
		return answer_as_router(skb, p);
	if (p->balancer)
		return go(skb, TAIL_BALANCE);
	if (p->external)
		return go(skb, TAIL_JUDGE);
	rc = set_router_mac(p);
	return rc ? rc : go(skb, TAIL_JUDGE);
}

static __always_inline int slow_ep(struct __sk_buff *skb, struct pkt *p)
{
	struct ep_key key = { .ifindex = skb->ifindex };
	const struct ep *ep = bpf_map_lookup_elem(&plum_ep, &key);
	int rc;

	if (!ep)
		return DROP(NOT_PROGRAMMED);
	load_sender(p, ep);
	rc = stage_parse(skb, p);
	if (rc)
		return rc;
	rc = stage_port_security(p, ep);
	if (rc)
		return rc;
	rc = p->family ? stage_nd(skb, p) : stage_arp(skb, p, ep);
	if (rc)
		return rc;
	if (p->family) {
		rc = stage_punt(skb, p);
		if (rc)
			return rc;
		if (p->frag) {
			rc = stage_fragment(p);
			if (rc)
				return rc;
		}
		p->hash = flow_hash(p);
	}
	return forward_from_ep(skb, p);
}

SEC("tc")
int plum_slow_ep(struct __sk_buff *skb)
{
	struct pkt *p = scratch();

	if (!p)
		return TC_ACT_SHOT;
	__builtin_memset(p, 0, sizeof(*p));
	p->ctx = skb->ifindex;
	p->in_ifindex = skb->ifindex;
	p->now = now_ns();
	return finish_or_explain(skb, p, slow_ep(skb, p));
}

/* A frame out of a tunnel: the sender's node has routed it, so its MAC names a
 * local endpoint, or it is for several. */
static __always_inline int slow_ul(struct __sk_buff *skb, struct pkt *p, const struct config *cfg)
{
	struct outer out = {};
	struct bridge_key bk;
	const struct bridge *b;
	struct mac_key key = {};
	const struct port *port;
	int rc;

	p->stage = STAGE_DECAPSULATE;
	rc = check_outer(skb, cfg, &out);
	if (rc)
		return rc;
	if (out.vni == PLUM_PROBE_VNI)
		return stage_probe(skb, p, out.v4);
	p->in_node = out.node;
	p->outer4 = out.v4;
	p->external = out.vni;
	if (external_of(out.vni))
		return go(skb, TAIL_EXTERNAL);
	p->external = 0;
	bk.vni = out.vni;
	b = bpf_map_lookup_elem(&plum_bridge, &bk);
	if (!b)
		return DROP(VNI);
	p->in_vni = out.vni;
	p->domain = b->domain;
	p->ctx = FLOW_CTX_UNDERLAY | out.vni;
	rc = decapsulate(skb, out.v4);
	if (rc)
		return rc;
	rc = stage_parse(skb, p);
	if (rc)
		return rc;
	if (p->frag) {
		rc = stage_fragment(p);
		if (rc)
			return rc;
	}
	if (mac_is_group(p->dmac))
		return go(skb, TAIL_FLOOD);
	key.vni = out.vni;
	__builtin_memcpy(key.mac, p->dmac, 6);
	port = bpf_map_lookup_elem(&plum_mac, &key);
	if (!port)
		return go(skb, TAIL_FLOOD);
	if (port->node || port->router || port->balancer)
		return DROP(NOT_HERE);
	p->near_vni = out.vni;
	p->hash = flow_hash(p);
	rc = stage_bridge(skb, p, port);
	if (rc)
		return rc;
	return p->family ? go(skb, TAIL_JUDGE) : go(skb, TAIL_SEND);
}

SEC("tc")
int plum_slow_ul(struct __sk_buff *skb)
{
	const struct config *cfg = config();
	struct pkt *p = scratch();

	if (!p || !cfg)
		return TC_ACT_SHOT;
	__builtin_memset(p, 0, sizeof(*p));
	p->from_underlay = true;
	p->now = now_ns();
	return finish(skb, p, slow_ul(skb, p, cfg));
}

static __always_inline int balance(struct __sk_buff *skb, struct pkt *p)
{
	int rc = stage_load_balance(skb, p);

	return rc ? rc : go(skb, TAIL_JUDGE);
}

SEC("tc")
int plum_balance(struct __sk_buff *skb)
{
	struct pkt *p = scratch();

	if (!p)
		return TC_ACT_SHOT;
	return finish_or_explain(skb, p, balance(skb, p));
}

static __always_inline int judge(struct __sk_buff *skb, struct pkt *p, const struct config *cfg)
{
	int rc = stage_flow_lookup(skb, p, cfg);

	if (rc)
		return rc;
	if (!p->judged && !p->exempt) {
		if (!p->from_underlay) {
			rc = stage_sender_policy(p);
			if (p->log)
				log_decision(p, p->in_slot, !rc);
			if (rc)
				return rc;
		}
		if (p->gated && !p->reply) {
			rc = stage_router_policy(p);
			if (rc)
				return rc;
		}
		if (p->out_ifindex) {
			rc = stage_receiver_policy(p);
			if (p->log)
				log_decision(p, p->out_slot, !rc);
			if (rc)
				return rc;
		} else if (p->external) {
			return go(skb, TAIL_NAT);
		}
	}
	if (p->external && !p->translate)
		return DROP(ICMP_UNRELATED); /* nothing leaves with an inner address */
	return go(skb, TAIL_SEND);
}

SEC("tc")
int plum_judge(struct __sk_buff *skb)
{
	const struct config *cfg = config();
	struct pkt *p = scratch();

	if (!p || !cfg)
		return TC_ACT_SHOT;
	return finish(skb, p, judge(skb, p, cfg));
}

SEC("tc")
int plum_send(struct __sk_buff *skb)
{
	const struct config *cfg = config();
	struct pkt *p = scratch();
	int rc = NEXT;

	if (!p || !cfg)
		return TC_ACT_SHOT;
	if (p->family)
		rc = stage_limit(p, skb->len);
	if (p->family && !rc)
		rc = stage_flow_install(p, skb->len);
	if (!rc)
		rc = send_out(skb, p, cfg);
	if (rc == UPLINK)
		rc = go(skb, TAIL_UPLINK);
	return finish(skb, p, rc);
}

static __always_inline int nat_out(struct __sk_buff *skb, struct pkt *p)
{
	int rc = stage_nat_out(p);

	return rc ? rc : go(skb, TAIL_SEND);
}

SEC("tc")
int plum_nat_out(struct __sk_buff *skb)
{
	struct pkt *p = scratch();

	if (!p)
		return TC_ACT_SHOT;
	return finish_or_explain(skb, p, nat_out(skb, p));
}

SEC("tc")
int plum_flood_out(struct __sk_buff *skb)
{
	const struct config *cfg = config();
	struct pkt *p = scratch();

	if (!p || !cfg)
		return TC_ACT_SHOT;
	return finish(skb, p, stage_flood(skb, p, cfg));
}

SEC("tc")
int plum_error(struct __sk_buff *skb)
{
	struct pkt *p = scratch();

	if (!p)
		return TC_ACT_SHOT;
	return finish(skb, p, stage_icmp_error(skb, p));
}

/* Attached to tc ingress of every endpoint's host-side device. */
SEC("tc")
int plum_from_ep(struct __sk_buff *skb)
{
	int rc = fast_from_ep(skb);

	if (rc == FAST_UPLINK)
		bpf_tail_call_static(skb, &plum_tail, TAIL_UPLINK);
	else if (rc == FAST_MISS)
		bpf_tail_call_static(skb, &plum_tail, TAIL_SLOW_EP);
	else
		return rc;
	count_drop(DROP_SLOT_NODE, DROP_TAIL_CALL, skb->len);
	return TC_ACT_SHOT;
}

/* Attached to tc ingress of the underlay device. */
SEC("tc")
int plum_from_ul(struct __sk_buff *skb)
{
	int rc = fast_from_ul(skb);

	if (rc != FAST_MISS)
		return rc;
	bpf_tail_call_static(skb, &plum_tail, TAIL_SLOW_UL);
	count_drop(DROP_SLOT_NODE, DROP_TAIL_CALL, skb->len);
	return TC_ACT_SHOT;
}

/* Helpers such as redirect_neigh are for GPL-compatible programs. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
