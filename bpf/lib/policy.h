/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_POLICY_H
#define PLUM_POLICY_H

#include "pkt.h"
#include "rule_log.h"

#define SPAN_STEPS 17 /* halvings of 65536 spans */

struct decision {
	__u64 rule;
	__u32 order;
	__u32 action;
	__u8 log;
};

/* Last span that starts at or before the port. */
static __noinline int find_span(__u64 list, __u32 spans, __u16 port, struct decision *best)
{
	struct span_key key = { .list = list };
	const struct span *hit = NULL;
	__u32 low = 0, high = spans;

	if (!best)
		return 0;
	for (int i = 0; i < SPAN_STEPS; i++) {
		const struct span *s;

		if (low >= high)
			break;
		key.index = (low + high) / 2;
		s = bpf_map_lookup_elem(&plum_span, &key);
		if (!s)
			return 0;
		if (s->first <= port) {
			hit = s;
			low = key.index + 1;
		} else {
			high = key.index;
		}
	}
	if (hit && hit->action != ACTION_NONE && hit->order < best->order) {
		best->rule = hit->rule;
		best->order = hit->order;
		best->action = hit->action;
		best->log = hit->log;
	}
	return 0;
}

static __always_inline void try_class(__u64 set, __u64 peer_class, __u32 proto, __u16 port,
				      struct decision *best)
{
	struct verdict_key key = { .set = set, .peer_class = peer_class, .proto = proto };
	const struct verdict *v = bpf_map_lookup_elem(&plum_verdict, &key);

	if (v)
		find_span(v->list, v->spans, port, best);
}

/* Policy class of an address that may be no endpoint's, and is none's outside. */
static __always_inline __u64 class_of(const struct pkt *p, const __be32 *addr, bool outside)
{
	struct host_key hk = { .domain = p->domain };
	struct peer_key pk = { .prefixlen = 32 + 128 };
	const struct host *host;
	const struct peer *peer;

	addr_copy(hk.addr, addr);
	host = outside ? NULL : bpf_map_lookup_elem(&plum_host, &hk);
	if (host && !host->router)
		return host->peer_class;
	pk.domain = p->domain | (outside ? PEER_OUTSIDE : 0);
	addr_copy(pk.addr, addr);
	peer = bpf_map_lookup_elem(&plum_peer, &pk);
	return peer ? peer->peer_class : 0;
}

/* Of the end that is outside, if one is. */
static __always_inline __u64 peer_class_of(const struct pkt *p, const __be32 *addr)
{
	return class_of(p, addr, p->external);
}

static __always_inline void count_rule(__u32 domain, __u64 rule)
{
	struct rule_key key = { .rule = rule, .domain = domain };
	struct rule_stat one = { .hits = 1 };
	struct rule_stat *stat = bpf_map_lookup_elem(&plum_rule_stat, &key);

	if (stat)
		stat->hits++;
	else
		bpf_map_update_elem(&plum_rule_stat, &key, &one, BPF_ANY);
}

/* First rule of the set that matches, else the endpoint's default. */
static __always_inline bool policy_allows(struct pkt *p, __u64 set, __u64 peer_class, __u16 port,
					  bool by_default)
{
	struct decision best = { .order = ~0u };

	if (set) {
		try_class(set, 0, p->policy_proto, port, &best);
		if (peer_class)
			try_class(set, peer_class, p->policy_proto, port, &best);
	}
	p->rule = best.rule;
	p->log = best.log;
	count_rule(p->domain, best.rule);
	if (best.action == ACTION_NONE)
		return by_default;
	return best.action == ACTION_ALLOW;
}

/* What the connection's first packet was sent to, as the judged end knows it: a
 * reply carries it as source; behind a load balancer the client's end knows the
 * virtual port and the backend's its own. */
static __always_inline __u16 original_port(const struct pkt *p, bool receiver)
{
	bool icmp = p->policy_proto == PROTO_ICMP || p->policy_proto == PROTO_ICMP6;

	if (receiver && p->translate && !icmp && !(p->external && p->reply))
		return bpf_ntohs(p->new_port);
	if (!p->reply)
		return p->policy_port;
	switch (p->policy_proto) {
	case PROTO_ICMP:
		return 8 << 8;
	case PROTO_ICMP6:
		return 128 << 8;
	case PROTO_OTHER:
		return p->policy_port;
	default:
		return bpf_ntohs(p->sport);
	}
}

struct gate_run {
	struct pkt *p;
	__u64 source; /* policy classes of the ends */
	__u64 target;
	__u16 port; /* as the interface sees it: translated, if from outside */
	int rc;
};

/* Rules of one interface. Those towards its bridge ask for the source, those from
 * it for the destination; where none matches the next one is asked. */
static long gate_step(__u32 index, struct gate_run *run)
{
	struct decision best = { .order = ~0u };
	struct pkt *p = run->p;
	__u64 set, peer, rule = p->rule;

	if (index >= MAX_GATES)
		return 1;
	set = p->gates[index];
	if (!set)
		return 0;
	peer = index & 1 ? run->source : run->target;
	try_class(set, 0, p->policy_proto, run->port, &best);
	if (peer)
		try_class(set, peer, p->policy_proto, run->port, &best);
	if (best.action == ACTION_NONE)
		return 0;
	count_rule(p->domain, best.rule);
	p->rule = best.rule;
	p->log = best.log;
	if (best.action == ACTION_DENY)
		run->rc = DROP(POLICY_ROUTER);
	if (p->log)
		log_decision(p, p->from_underlay ? p->out_slot : p->in_slot, !run->rc);
	p->rule = rule;
	return run->rc ? 1 : 0;
}

/*
 * stage ROUTER_POLICY: the rules of every interface on the way, in its order. Asked
 * of the packets of the side that began the connection, on its node, which has
 * routed them, or on the endpoint's node, if it began outside; answers follow,
 * whatever way they take back.
 */
static __always_inline int stage_router_policy(struct pkt *p)
{
	bool inward = p->from_underlay;
	struct gate_run run = { .p = p, .source = class_of(p, p->saddr, inward) };

	p->stage = STAGE_ROUTER_POLICY;
	run.target = p->dst_class_known ? p->dst_class : peer_class_of(p, p->daddr);
	run.port = inward ? original_port(p, true) : p->policy_port;
	bpf_loop(MAX_GATES, gate_step, &run, 0);
	return run.rc;
}

/*
 * stages EGRESS_POLICY and INGRESS_POLICY. A connection is judged by what its
 * first packet was: when a reply is judged again after a change, the ends swap
 * roles.
 */
static __always_inline int stage_sender_policy(struct pkt *p)
{
	__u64 set = p->reply ? p->in_ingress_set : p->in_egress_set;
	__u32 flag = p->reply ? EP_INGRESS_ALLOW : EP_EGRESS_ALLOW;
	__u64 peer = p->dst_class_known ? p->dst_class : peer_class_of(p, p->daddr);

	p->stage = p->reply ? STAGE_INGRESS_POLICY : STAGE_EGRESS_POLICY;
	if (policy_allows(p, set, peer, original_port(p, false), p->in_flags & flag))
		return NEXT;
	return p->reply ? DROP(POLICY_INGRESS) : DROP(POLICY_EGRESS);
}

static __always_inline int stage_receiver_policy(struct pkt *p)
{
	__u64 set = p->reply ? p->out_egress_set : p->out_ingress_set;
	__u32 flag = p->reply ? EP_EGRESS_ALLOW : EP_INGRESS_ALLOW;

	const __be32 *peer = p->translate & FLOW_NEW_SRC ? p->new_addr : p->saddr;

	p->stage = p->reply ? STAGE_EGRESS_POLICY : STAGE_INGRESS_POLICY;
	if (policy_allows(p, set, peer_class_of(p, peer), original_port(p, true),
			  p->out_flags & flag))
		return NEXT;
	return p->reply ? DROP(POLICY_EGRESS) : DROP(POLICY_INGRESS);
}

#endif /* PLUM_POLICY_H */
