/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_GC_H
#define PLUM_GC_H

#include "flow.h"

/*
 * Flow collection, run by plumd every few seconds through BPF_PROG_RUN. The
 * datapath itself treats an idle entry as absent, so nothing depends on when
 * this runs; it gives the memory back and corrects the quota counters, which
 * evictions by the LRU leave too high.
 */

struct gc_run {
	struct gc_args *args;
	const struct config *cfg;
	__u64 now;
};

static __always_inline bool gc_concerns(const struct gc_run *run, const struct flow *f)
{
	__u32 slot = run->args->purge_slot;

	return slot != DROP_SLOT_NODE &&
	       (f->slot == slot || f->owner == slot || (f->out_ifindex && f->out_slot == slot));
}

/* A public port is leased for as long as a connection uses it, and a little more. */
static __always_inline void gc_keep_port(struct gc_run *run, const struct flow *f, __u8 proto)
{
	struct nat_port_key key = { .vni = f->vni, .port = f->new_port, .proto = proto };
	struct nat_port *port;

	addr_copy(key.addr, f->new_addr);
	port = bpf_map_lookup_elem(&plum_nat_port, &key);
	if (port)
		port->seen = run->now;
}

static __always_inline void gc_keep(struct gc_run *run, const struct flow *f, __u8 proto)
{
	struct quota *q;
	__u32 slot = f->owner;

	run->args->kept++;
	if (f->flags & FLOW_REPLY)
		return;
	q = bpf_map_lookup_elem(&plum_quota, &slot);
	if (q)
		q->counted++;
	if (f->flags & FLOW_UPLINK && f->flags & FLOW_NEW_SRC)
		gc_keep_port(run, f, proto);
}

static long gc_step4(void *map, struct flow4_key *key, struct flow *f, struct gc_run *run)
{
	struct flow4_key back = {};
	const struct flow *r;

	if (!gc_concerns(run, f)) {
		back.ctx = f->reverse_ctx;
		back.saddr = key->daddr;
		back.daddr = key->saddr;
		back.sport = key->dport;
		back.dport = key->sport;
		back.proto = key->proto;
		if (f->flags & FLOW_NEW_DST) {
			back.saddr = f->new_addr[3];
			back.sport = f->new_port;
		} else if (f->flags & FLOW_NEW_SRC) {
			back.daddr = f->new_addr[3];
			back.dport = f->new_port;
		}
		r = bpf_map_lookup_elem(&plum_flow4, &back);
		if (!flow_idle(run->cfg, f, key->proto, run->now) ||
		    (r && !flow_idle(run->cfg, r, key->proto, run->now))) {
			gc_keep(run, f, key->proto);
			return 0;
		}
	}
	if (!bpf_map_delete_elem(&plum_flow4, key))
		run->args->collected++;
	return 0;
}

static long gc_step6(void *map, struct flow6_key *key, struct flow *f, struct gc_run *run)
{
	struct flow6_key back = {};
	const struct flow *r;

	if (!gc_concerns(run, f)) {
		back.ctx = f->reverse_ctx;
		addr_copy(back.saddr, key->daddr);
		addr_copy(back.daddr, key->saddr);
		back.sport = key->dport;
		back.dport = key->sport;
		back.proto = key->proto;
		if (f->flags & FLOW_NEW_DST) {
			addr_copy(back.saddr, f->new_addr);
			back.sport = f->new_port;
		} else if (f->flags & FLOW_NEW_SRC) {
			addr_copy(back.daddr, f->new_addr);
			back.dport = f->new_port;
		}
		r = bpf_map_lookup_elem(&plum_flow6, &back);
		if (!flow_idle(run->cfg, f, key->proto, run->now) ||
		    (r && !flow_idle(run->cfg, r, key->proto, run->now))) {
			gc_keep(run, f, key->proto);
			return 0;
		}
	}
	if (!bpf_map_delete_elem(&plum_flow6, key))
		run->args->collected++;
	return 0;
}

static long gc_port(void *map, struct nat_port_key *key, struct nat_port *port, struct gc_run *run)
{
	struct nat_key nk = { .router = port->router, .port = port->port, .proto = key->proto };

	if (run->now < port->seen + (__u64)run->cfg->udp_s * 1000 * 1000 * 1000)
		return 0;
	addr_copy(nk.addr, port->addr);
	bpf_map_delete_elem(&plum_nat, &nk);
	bpf_map_delete_elem(&plum_nat_port, key);
	return 0;
}

static long gc_forget(void *map, __u32 *slot, struct quota *q, void *unused)
{
	q->counted = 0;
	return 0;
}

static long gc_settle(void *map, __u32 *slot, struct quota *q, void *unused)
{
	q->flows = q->counted;
	return 0;
}

SEC("syscall")
int plum_flow_gc(struct gc_args *args)
{
	struct gc_run run = { .args = args, .cfg = config(), .now = bpf_ktime_get_ns() };

	if (!run.cfg)
		return 1;
	args->kept = 0;
	args->collected = 0;
	bpf_for_each_map_elem(&plum_quota, gc_forget, NULL, 0);
	bpf_for_each_map_elem(&plum_flow4, gc_step4, &run, 0);
	bpf_for_each_map_elem(&plum_flow6, gc_step6, &run, 0);
	bpf_for_each_map_elem(&plum_nat_port, gc_port, &run, 0);
	bpf_for_each_map_elem(&plum_quota, gc_settle, NULL, 0);
	return 0;
}

#endif /* PLUM_GC_H */
