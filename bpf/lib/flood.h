/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_FLOOD_H
#define PLUM_FLOOD_H

#include "deliver.h"
#include "finish.h"
#include "parse.h"
#include "policy.h"

struct flood_run {
	struct __sk_buff *skb;
	struct pkt *p;
	const struct config *cfg;
	bool wrapped; /* outer headers are on, only their address changes */
	bool failed;
	bool v4;
};

/* A copy for a local endpoint, if its ingress policy takes it. */
static __always_inline void flood_local(struct flood_run *run, __u32 ifindex)
{
	struct ep_key key = { .ifindex = ifindex };
	const struct ep *ep = bpf_map_lookup_elem(&plum_ep, &key);
	struct pkt *p = run->p;

	if (!ep || ifindex == p->in_ifindex)
		return;
	if (p->family && !p->nd) {
		p->out_ingress_set = ep->ingress_set;
		p->out_flags = ep->flags;
		if (stage_receiver_policy(p)) {
			count_drop(ep->slot, DROP_POLICY_INGRESS, run->skb->len);
			return;
		}
	}
	if (bpf_clone_redirect(run->skb, ifindex, 0))
		count_drop(ep->slot, DROP_HELPER, run->skb->len);
	else
		count_received(ep->slot, run->skb->len);
}

/* Wraps the frame once; every node gets it under its own outer address. */
static __always_inline void flood_wrap(struct flood_run *run, const struct tunnel *t,
				       const __be32 *to)
{
	run->v4 = is_mapped4(to);
	if (grow(run->skb, run->v4, t->ethertype, false)) {
		run->failed = true;
		return;
	}
	run->wrapped = true;
}

static __always_inline void flood_remote(struct flood_run *run, __u32 node)
{
	const struct node *to = bpf_map_lookup_elem(&plum_node, &node);
	const struct path *path = known_path(node);
	struct pkt *p = run->p;
	struct tunnel t = { .node = node, .vni = p->in_vni, .ethertype = p->ethertype };

	if (!to || addr_is_zero(to->vtep) || !path) {
		count_drop(p->in_slot, DROP_NO_PATH, run->skb->len);
		return;
	}
	t.entropy = (__u16)(49152 + (p->hash & 0x3fff));
	__builtin_memcpy(t.dmac, p->dmac, 6);
	__builtin_memcpy(t.smac, p->smac, 6);
	if (!run->wrapped)
		flood_wrap(run, &t, to->vtep);
	if (run->failed ||
	    (run->v4 ? write_outer4(run->skb, &t, run->cfg->vtep, to->vtep)
		     : write_outer6(run->skb, &t, run->cfg->vtep, to->vtep)) ||
	    set_path(run->skb, path)) {
		count_drop(p->in_slot, DROP_HELPER, run->skb->len);
		return;
	}
	if (bpf_clone_redirect(run->skb, path->ifindex, 0))
		count_drop(p->in_slot, DROP_HELPER, run->skb->len);
}

static long flood_step(__u32 index, struct flood_run *run)
{
	struct flood_key key = { .vni = run->p->in_vni, .index = index };
	const struct flood *member = bpf_map_lookup_elem(&plum_flood, &key);

	if (!member)
		return 1;
	if (!member->node)
		flood_local(run, member->ifindex);
	else if (!run->p->from_underlay)
		flood_remote(run, member->node);
	return 0;
}

/* A flooded packet has no flow, so it must be one that needs none: a group's MAC
 * is no way around the handshake. */
static __always_inline int refuse_stateful(const struct pkt *p)
{
	if (p->proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
		return DROP(TCP_NO_HANDSHAKE);
	if ((p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6) && p->frag != FRAG_LATER &&
	    (p->icmp_error || icmp_is_reply(p->family, p->icmp_type)))
		return DROP(ICMP_UNRELATED);
	return NEXT;
}

/*
 * stage FLOOD: head-end replication of broadcast, multicast and unknown
 * unicast: local members first, then one copy per node that has members. What
 * came by a tunnel stays on this node. IGMP and MLD end here: every member
 * hears every group, so nobody needs to know who listens.
 */
static __always_inline int stage_flood(struct __sk_buff *skb, struct pkt *p,
				       const struct config *cfg)
{
	struct bridge_key key = { .vni = p->in_vni };
	const struct bridge *b = bpf_map_lookup_elem(&plum_bridge, &key);
	struct flood_run run = { .skb = skb, .p = p, .cfg = cfg };

	p->stage = STAGE_FLOOD;
	if (!b)
		return DROP(VNI);
	if (p->listener)
		return CONSUMED;
	if (!(b->flags & BRIDGE_FLOOD))
		return DROP(FLOOD_OFF);
	if (p->family && p->l3_bytes > b->mtu)
		return DROP(MTU);
	if (p->family && !p->nd) {
		int rc = refuse_stateful(p);

		if (!rc && !p->from_underlay)
			rc = stage_sender_policy(p);
		if (rc)
			return rc;
	}
	if (!p->from_underlay) {
		if (p->in_flags & EP_LIMIT && !within_limit(p->in_slot, true, skb->len))
			return DROP(LIMIT);
		count_sent(p->in_slot, skb->len);
	}
	bpf_loop(PLUM_MAX_FLOOD, flood_step, &run, 0);
	return CONSUMED;
}

#endif /* PLUM_FLOOD_H */
