/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_FLOW_H
#define PLUM_FLOW_H

#include "flow_state.h"
#include "tuple.h"

/* The translation a connection was given stays with it. */
static __always_inline void load_translation(struct pkt *p, const struct flow *f)
{
	p->translate = f->flags & (FLOW_NEW_DST | FLOW_NEW_SRC);
	addr_copy(p->new_addr, f->new_addr);
	p->new_port = f->new_port;
}

/* Does the packet go to the backend the connection went to so far? */
static __always_inline bool same_translation(const struct pkt *p, const struct flow *f)
{
	if ((f->flags ^ p->translate) & FLOW_NEW_DST)
		return false;
	return !(p->translate & FLOW_NEW_DST) ||
	       (addr_equal(p->new_addr, f->new_addr) && p->new_port == f->new_port);
}

/* `end`: the address that is replaced. */
static __always_inline void set_translation(struct flow *f, __u8 kind, const __be32 *end,
					    const __be32 *addr, __be16 port)
{
	__be32 from[4], to[4];

	addr_copy(from, end);
	addr_copy(to, addr);
	f->flags |= kind;
	f->new_port = port;
	addr_copy(f->new_addr, addr);
	f->new_sum = (__u32)bpf_csum_diff(from, sizeof(from), to, sizeof(to), 0);
}

static __always_inline void flow_touch(struct flow *f, const struct pkt *p, __u32 bytes)
{
	f->seen = p->now;
	f->packets++;
	f->bytes += bytes;
	if (p->proto == IPPROTO_TCP && p->frag != FRAG_LATER && !(p->tcp_flags & TCP_RST)) {
		if (p->tcp_flags & TCP_ACK)
			f->tcp_ack = p->tcp_ack;
		f->tcp_end = tcp_end_of(p);
		if (p->tcp_flags & TCP_FIN)
			f->flags |= FLOW_FIN;
	}
}

static __always_inline __u64 epoch_of(__u32 slot)
{
	const struct epoch *e = bpf_map_lookup_elem(&plum_epoch, &slot);

	return e ? e->value : 0;
}

/* The slot whose epoch settles flows of this packet's context. */
static __always_inline __u32 judge_slot(const struct pkt *p)
{
	return p->from_underlay ? p->out_slot : p->in_slot;
}

/* What an ICMP error is about: the tuple of the answers to what it quotes, which
 * take the error's own way (RFC 5508). */
static __always_inline bool quoted_tuple(struct __sk_buff *skb, const struct pkt *p,
					 struct tuple *quoted)
{
	__u32 off = p->l4_off + 8;
	struct tuple t = { .ctx = p->ctx, .family = p->family };
	__u8 ports[8] = {};
	__u8 l4_type, l4_code;
	__be32 quoted_source[4];

	if (p->family == 4) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, off, &ip, sizeof(ip)) < 0 || ip.version != 4 ||
		    ip.ihl < 5)
			return false;
		addr_from4(t.saddr, ip.daddr);
		addr_from4(t.daddr, ip.saddr);
		t.proto = ip.protocol;
		off += ip.ihl * 4;
	} else {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, off, &ip, sizeof(ip)) < 0 || ip.version != 6)
			return false;
		addr_copy(t.saddr, ip.daddr.in6_u.u6_addr32);
		addr_copy(t.daddr, ip.saddr.in6_u.u6_addr32);
		t.proto = ip.nexthdr;
		off += sizeof(ip);
	}
	addr_copy(quoted_source, t.daddr);
	if (!addr_equal(quoted_source, p->daddr))
		return false;
	if (t.proto == IPPROTO_TCP || t.proto == IPPROTO_UDP || t.proto == NEXTHDR_SCTP ||
	    t.proto == IPPROTO_ICMP || t.proto == IPPROTO_ICMPV6) {
		if (bpf_skb_load_bytes(skb, off, ports, sizeof(ports)) < 0)
			return false;
	}
	if (t.proto == IPPROTO_ICMP || t.proto == IPPROTO_ICMPV6) {
		l4_type = ports[0];
		l4_code = ports[1];
		icmp_ports(t.family, l4_type, l4_code, *(__be16 *)(ports + 4), &t.dport, &t.sport);
	} else {
		t.dport = *(__be16 *)ports;
		t.sport = *(__be16 *)(ports + 2);
	}
	*quoted = t;
	return true;
}

/* An ICMP error belongs to the flow it quotes. That must be current: after a
 * change its next packet decides. */
static __always_inline bool icmp_error_related(struct __sk_buff *skb, struct pkt *p)
{
	const struct flow *f;
	struct tuple t;

	if (!quoted_tuple(skb, p, &t))
		return false;
	f = flow_get(&t);
	if (!f || f->epoch != p->epoch || !!(f->flags & FLOW_UPLINK) != !!p->external)
		return false;
	load_translation(p, f);
	p->quoted = p->translate;
	return true;
}

/*
 * stage FLOW_LOOKUP on the slow path: is the packet part of a connection, and
 * is the decision about it still good? What begins no connection and belongs
 * to none is refused here.
 */
static __always_inline int stage_flow_lookup(struct __sk_buff *skb, struct pkt *p,
					     const struct config *cfg)
{
	const struct flow *f, *r = NULL;
	struct tuple t;

	p->stage = STAGE_FLOW_LOOKUP;
	if (p->nd) {
		p->exempt = true; /* as ARP is: checked by its sender's node */
		return NEXT;
	}
	p->epoch = epoch_of(judge_slot(p));
	tuple_of(p, &t);
	f = flow_get(&t);
	if (f && (!same_translation(p, f) || !!(f->flags & FLOW_UPLINK) != !!p->external))
		f = NULL; /* it went to a backend that is gone, or another way */
	if (f && f->flags & FLOW_NEW_SRC)
		load_translation(p, f);
	if (f && flow_idle(cfg, f, p->proto, p->now)) {
		tuple_reverse_of(p, f->reverse_ctx, &t);
		r = flow_get(&t);
		if (!r || flow_idle(cfg, r, p->proto, p->now)) {
			p->translate &= ~FLOW_NEW_SRC;
			f = NULL;
		}
	}
	if (f) {
		p->known = true;
		p->state = f->state;
		p->rule = f->rule;
		p->reply = f->flags & FLOW_REPLY;
		p->judged = f->epoch == p->epoch;
		p->quota_slot = f->owner;
		if (p->proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN &&
		    (f->state == FLOW_CLOSED || (p->reply && f->state == FLOW_NEW))) {
			p->reopen = true;
			p->judged = false;
			p->reply = false;
		}
		return NEXT;
	}
	if (p->icmp_error) {
		p->exempt = icmp_error_related(skb, p);
		return p->exempt ? NEXT : DROP(ICMP_UNRELATED);
	}
	if (p->frag == FRAG_LATER)
		return DROP(FRAGMENT_FIRST); /* its first fragment made no flow */
	if (p->proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
		return DROP(TCP_NO_HANDSHAKE);
	if ((p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6) &&
	    icmp_is_reply(p->family, p->icmp_type))
		return DROP(ICMP_UNRELATED);
	return NEXT;
}

/* Charges a new connection to the endpoint that causes it here. */
static __always_inline int charge(struct pkt *p)
{
	__u32 slot = p->from_underlay ? p->out_slot : p->in_slot;
	__u32 limit = p->from_underlay ? p->out_quota : p->in_quota;
	struct quota *q = bpf_map_lookup_elem(&plum_quota, &slot);

	p->quota_slot = slot;
	if (!q)
		return DROP(FLOW_QUOTA);
	if (__sync_fetch_and_add(&q->flows, 1) < limit)
		return NEXT;
	__sync_fetch_and_add(&q->flows, -1ull);
	return DROP(FLOW_QUOTA);
}

static __always_inline void fill_forwarding(struct flow *f, const struct pkt *p)
{
	f->epoch = p->epoch;
	f->rule = p->rule;
	f->slot = judge_slot(p);
	f->owner = p->quota_slot;
	f->out_slot = p->out_slot;
	f->out_ifindex = p->out_ifindex;
	f->node = p->out_node;
	f->vni = p->out_vni;
	f->mtu = p->out_mtu;
	__builtin_memcpy(f->in_dmac, p->dmac, 6);
	__builtin_memcpy(f->in_smac, p->smac, 6);
	__builtin_memcpy(f->out_dmac, p->out_dmac, 6);
	__builtin_memcpy(f->out_smac, p->out_smac, 6);
	f->entropy = (__u16)(49152 + (p->hash & 0x3fff));
	f->hops = p->hops;
	f->qos = p->qos;
	f->flags |= FLOW_RESOLVED;
	if (p->routed)
		f->flags |= FLOW_ROUTED;
	else
		f->flags &= ~FLOW_ROUTED;
	if (p->out_flags & EP_TAP)
		f->flags |= FLOW_TAP;
	else
		f->flags &= ~FLOW_TAP;
	if (p->external)
		f->flags |= FLOW_UPLINK;
	if (p->translate)
		set_translation(f, p->translate, p->translate & FLOW_NEW_DST ? p->daddr : p->saddr,
				p->new_addr, p->new_port);
}

/* Would the answers to this new connection be taken for another's? A client
 * may use one port to a virtual address and to its backend. */
static __always_inline bool clashes(const struct pkt *p, const struct tuple *back)
{
	const struct config *cfg = config();
	const struct flow *r = flow_get(back);

	if (!cfg || !r || !(r->flags & FLOW_REPLY) || r->state == FLOW_CLOSED ||
	    flow_idle(cfg, r, p->proto, p->now))
		return false;
	if (!(p->translate | (r->flags & FLOW_NEW_SRC)))
		return false;
	if (p->translate & FLOW_NEW_SRC)
		return !(r->flags & FLOW_NEW_DST && r->new_port == p->sport &&
			 addr_equal(r->new_addr, p->saddr));
	return !(p->translate && r->flags & FLOW_NEW_SRC && r->new_port == p->dport &&
		 addr_equal(r->new_addr, p->daddr));
}

/* Both entries of a new connection, the answering one without a way yet: its
 * first packet will find it. */
static __always_inline int install_new(struct pkt *p, struct tuple *t, __u32 bytes)
{
	struct flow f = { .created = p->now, .reverse_ctx = p->out_ifindex };
	struct tuple back;
	int rc;

	if (!p->out_ifindex)
		f.reverse_ctx = FLOW_CTX_UNDERLAY | (p->external ? p->external : p->in_vni);
	tuple_reverse_of(p, f.reverse_ctx, &back);
	if (clashes(p, &back))
		return DROP(FLOW_CLASH);
	if (!p->reopen || !p->known) {
		rc = charge(p);
		if (rc)
			return rc;
	}
	fill_forwarding(&f, p);
	flow_touch(&f, p, bytes);
	if (flow_put(t, &f) < 0)
		return DROP(FLOW_TABLE);
	__builtin_memset(&f, 0, sizeof(f));
	f.created = p->now;
	f.seen = p->now;
	f.epoch = p->epoch;
	f.rule = p->rule;
	f.owner = p->quota_slot;
	f.reverse_ctx = p->ctx;
	f.flags = FLOW_REPLY | (p->external ? FLOW_UPLINK : 0);
	f.slot = p->out_ifindex ? p->out_slot : p->in_slot;
	if (p->out_ifindex && !p->from_underlay)
		f.epoch = epoch_of(p->out_slot);
	if (p->translate & FLOW_NEW_SRC)
		set_translation(&f, FLOW_NEW_DST, p->new_addr, p->saddr, p->sport);
	else if (p->translate)
		set_translation(&f, FLOW_NEW_SRC, p->new_addr, p->daddr, p->dport);
	return flow_put(&back, &f) < 0 ? DROP(FLOW_TABLE) : NEXT;
}

/* A packet of a known connection: note what it changes. */
static __always_inline int update_known(struct pkt *p, struct tuple *t, __u32 bytes)
{
	struct flow *f = flow_get(t);
	struct flow *r = NULL;
	struct tuple back;

	if (!f)
		return DROP(FLOW_TABLE); /* evicted since the lookup */
	tuple_reverse_of(p, f->reverse_ctx, &back);
	r = flow_get(&back);
	if (r) {
		__u8 state = next_state(p, f, r);

		if (state != f->state)
			r->state = state;
		f->state = state;
	}
	flow_touch(f, p, bytes);
	if (!p->judged || !(f->flags & FLOW_RESOLVED)) {
		struct flow now = *f;

		fill_forwarding(&now, p);
		return flow_put(t, &now) < 0 ? DROP(FLOW_TABLE) : NEXT;
	}
	return NEXT;
}

/* stage FLOW_INSTALL: remember the decision. ICMP errors leave no trace. */
static __always_inline int stage_flow_install(struct pkt *p, __u32 bytes)
{
	struct tuple t;

	p->stage = STAGE_FLOW_INSTALL;
	if (p->exempt)
		return NEXT;
	tuple_of(p, &t);
	if (p->known && !p->reopen)
		return update_known(p, &t, bytes);
	return install_new(p, &t, bytes);
}

#endif /* PLUM_FLOW_H */
