/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_RULE_LOG_H
#define PLUM_RULE_LOG_H

#include "pkt.h"

#define LOG_WINDOW_NS (1000ull * 1000 * 1000)

/* What is over the endpoint's limit is counted, and told with the next one. */
static __always_inline bool log_allowed(const struct pkt *p, struct log_rate *rate)
{
	const struct config *cfg = config();

	if (!cfg)
		return false;
	if (p->now - rate->window > LOG_WINDOW_NS) {
		rate->window = p->now;
		rate->count = 0;
	}
	if (__sync_fetch_and_add(&rate->count, 1) < cfg->log_per_s)
		return true;
	__sync_fetch_and_add(&rate->lost, 1);
	return false;
}

/*
 * Tells plumd of a new connection that a rule with a log has decided. Not of one
 * that is judged again: its rule was logged when it began. The packet's fate does
 * not depend on whether there is room for the line.
 */
static __noinline int log_decision(struct pkt *p, __u32 slot, bool allowed)
{
	struct log_rate *rate;
	struct rule_log *to;

	if (!p || (p->known && !p->reopen))
		return 0;
	if (bpf_get_prandom_u32() & ((1u << ((p->log - 1) & 31)) - 1))
		return 0;
	rate = bpf_map_lookup_elem(&plum_log_rate, &slot);
	if (!rate || !log_allowed(p, rate))
		return 0;
	to = bpf_ringbuf_reserve(&plum_log, sizeof(*to), 0);
	if (!to) {
		__sync_fetch_and_add(&rate->lost, 1);
		return 0;
	}
	to->rule = p->rule;
	to->domain = p->domain;
	to->slot = slot;
	to->lost = (__u32)rate->lost;
	rate->lost = 0;
	to->stage = p->stage;
	to->allowed = allowed;
	to->proto = p->proto;
	addr_copy(to->saddr, p->saddr);
	addr_copy(to->daddr, p->daddr);
	to->sport = p->sport;
	to->dport = p->dport;
	if ((p->stage == STAGE_INGRESS_POLICY || p->from_underlay) && p->translate & FLOW_NEW_DST) {
		addr_copy(to->daddr, p->new_addr);
		to->dport = p->new_port;
	}
	to->icmp_type = p->icmp_type;
	to->icmp_code = p->icmp_code;
	to->pad = 0;
	bpf_ringbuf_submit(to, 0);
	return 0;
}

#endif /* PLUM_RULE_LOG_H */
