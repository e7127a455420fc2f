/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_FLOW_STATE_H
#define PLUM_FLOW_STATE_H

#include "parse.h"

/* What a connection's state is, and when it ends. */

/* How long a flow in this state may be idle. */
static __always_inline __u64 flow_timeout_ns(const struct config *cfg, __u8 proto, __u8 state)
{
	__u32 s;

	if (proto == IPPROTO_TCP)
		s = state == FLOW_ESTABLISHED ? cfg->tcp_established_s : cfg->tcp_transient_s;
	else if (proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6)
		s = cfg->icmp_s;
	else
		s = state == FLOW_ESTABLISHED ? cfg->udp_stream_s : cfg->udp_s;
	return (__u64)s * 1000 * 1000 * 1000;
}

static __always_inline bool flow_idle(const struct config *cfg, const struct flow *f, __u8 proto,
				      __u64 now)
{
	return now > f->seen && now - f->seen > flow_timeout_ns(cfg, proto, f->state);
}

/* TCP, after RFC 9293: which state the packet in this direction leads to. `f`
 * is the direction's own entry, `r` the other's. A reset counts only if it is
 * exactly what the other side expects next (RFC 5961). */
static __always_inline __u8 tcp_next_state(const struct pkt *p, const struct flow *f,
					   const struct flow *r)
{
	bool reply = f->flags & FLOW_REPLY;

	if (f->state == FLOW_CLOSED)
		return FLOW_CLOSED; /* only a SYN opens it again */
	if (p->tcp_flags & TCP_RST) {
		if (f->state == FLOW_NEW && reply)
			return p->tcp_ack == r->tcp_end ? FLOW_CLOSED : f->state;
		return p->tcp_seq == r->tcp_ack ? FLOW_CLOSED : f->state;
	}
	if (p->tcp_flags & TCP_SYN) {
		if (f->state == FLOW_NEW && reply && (p->tcp_flags & TCP_ACK) &&
		    p->tcp_ack == r->tcp_end)
			return FLOW_SYN_RECEIVED;
		return f->state;
	}
	if (p->tcp_flags & TCP_FIN) {
		if (f->state < FLOW_ESTABLISHED && reply)
			return f->state;
		return r->flags & FLOW_FIN ? FLOW_CLOSED : FLOW_CLOSING;
	}
	if (f->state == FLOW_SYN_RECEIVED && !reply && p->tcp_ack - r->tcp_end < 0x40000000)
		return FLOW_ESTABLISHED;
	return f->state;
}

static __always_inline __u8 next_state(const struct pkt *p, const struct flow *f,
				       const struct flow *r)
{
	if (p->proto == IPPROTO_TCP)
		return p->frag == FRAG_LATER ? f->state : tcp_next_state(p, f, r);
	return f->flags & FLOW_REPLY ? FLOW_ESTABLISHED : f->state;
}

/* Sequence space the packet takes (SYN and FIN count one). */
static __always_inline __u32 tcp_end_of(const struct pkt *p)
{
	return p->tcp_seq + p->l4_bytes - p->l4_header + !!(p->tcp_flags & TCP_SYN) +
	       !!(p->tcp_flags & TCP_FIN);
}

#endif /* PLUM_FLOW_STATE_H */
