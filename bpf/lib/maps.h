/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_MAPS_H
#define PLUM_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

/* PIPELINE.md says of each map who writes it, who reads it, and how long a row
 * lives. Sizes are defaults; the loader may set others before it loads. */

#define PLUM_MAP(map_type, map_name, map_key, map_value, entries, map_flag)                        \
	struct {                                                                                   \
		__uint(type, map_type);                                                            \
		__uint(max_entries, entries);                                                      \
		__uint(map_flags, map_flag);                                                       \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                                               \
		__type(key, map_key);                                                              \
		__type(value, map_value);                                                          \
	} map_name SEC(".maps")

#define LAZY BPF_F_NO_PREALLOC

PLUM_MAP(BPF_MAP_TYPE_ARRAY, plum_config, __u32, struct config, 1, 0);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_ep, struct ep_key, struct ep, PLUM_MAX_SLOTS, LAZY);
PLUM_MAP(BPF_MAP_TYPE_ARRAY, plum_epoch, __u32, struct epoch, PLUM_MAX_SLOTS, 0);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_limit, __u32, struct limit, PLUM_MAX_SLOTS, LAZY);
PLUM_MAP(BPF_MAP_TYPE_ARRAY, plum_meter, __u32, struct meter, PLUM_MAX_SLOTS, 0);
PLUM_MAP(BPF_MAP_TYPE_LPM_TRIE, plum_source, struct source_key, struct source, 1 << 17, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_bridge, struct bridge_key, struct bridge, 1 << 16, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_mac, struct mac_key, struct port, 1 << 18, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_host, struct host_key, struct host, 1 << 18, LAZY);
PLUM_MAP(BPF_MAP_TYPE_LPM_TRIE, plum_peer, struct peer_key, struct peer, 1 << 18, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_rif, struct rif_key, struct rif, 1 << 16, LAZY);
PLUM_MAP(BPF_MAP_TYPE_LPM_TRIE, plum_route, struct route_key, struct route, 1 << 17, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_hop, struct hop_key, struct hop, 1 << 16, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_vip, struct vip_key, struct vip, 1 << 16, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_maglev, struct maglev_key, struct maglev, 1 << 16, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_backend, struct backend_key, struct backend, 1 << 17, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_external, struct external_key, struct external, 1 << 10, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_attachment, struct attachment_key, struct attachment, 1 << 10,
	 LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_gateway, struct gateway_key, struct gateway, 1 << 14, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_public, struct public_key, struct public_end, 1 << 18, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_claim, struct claim_key, struct claim, 1 << 16, LAZY);
PLUM_MAP(BPF_MAP_TYPE_LRU_HASH, plum_neigh, struct neigh_key, struct neigh, 1 << 14, 0);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_uplink, struct uplink_key, struct uplink, 1 << 14, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_floating, struct floating_key, struct floating, 1 << 16, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_nat_block, struct nat_block_key, struct nat_block, 1 << 16, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_nat, struct nat_key, struct nat, 1 << 18, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_nat_port, struct nat_port_key, struct nat_port, 1 << 18, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_verdict, struct verdict_key, struct verdict, 1 << 20, LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_span, struct span_key, struct span, 1 << 20, LAZY);
PLUM_MAP(BPF_MAP_TYPE_PERCPU_HASH, plum_rule_stat, struct rule_key, struct rule_stat, 1 << 17,
	 LAZY);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_vtep, struct vtep_key, struct vtep, PLUM_MAX_NODES, LAZY);
PLUM_MAP(BPF_MAP_TYPE_ARRAY, plum_node, __u32, struct node, PLUM_MAX_NODES, 0);
PLUM_MAP(BPF_MAP_TYPE_ARRAY, plum_path, __u32, struct path, PLUM_MAX_NODES, 0);
PLUM_MAP(BPF_MAP_TYPE_HASH, plum_flood, struct flood_key, struct flood, 1 << 18, LAZY);
PLUM_MAP(BPF_MAP_TYPE_LRU_HASH, plum_flow4, struct flow4_key, struct flow, 1 << 18, 0);
PLUM_MAP(BPF_MAP_TYPE_LRU_HASH, plum_flow6, struct flow6_key, struct flow, 1 << 18, 0);
PLUM_MAP(BPF_MAP_TYPE_ARRAY, plum_quota, __u32, struct quota, PLUM_MAX_SLOTS, 0);
PLUM_MAP(BPF_MAP_TYPE_LRU_HASH, plum_frag, struct frag_key, struct frag, 1 << 13, 0);
PLUM_MAP(BPF_MAP_TYPE_PERCPU_ARRAY, plum_ep_stat, __u32, struct ep_stat, PLUM_MAX_SLOTS, 0);
PLUM_MAP(BPF_MAP_TYPE_PERCPU_HASH, plum_drop, struct drop_key, struct drop_stat, 1 << 16, LAZY);
PLUM_MAP(BPF_MAP_TYPE_ARRAY, plum_punt_rate, __u32, struct punt_rate, PLUM_MAX_SLOTS, 0);

PLUM_MAP(BPF_MAP_TYPE_ARRAY, plum_log_rate, __u32, struct log_rate, PLUM_MAX_SLOTS, 0);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} plum_log SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} plum_punt SEC(".maps");

#endif /* PLUM_MAPS_H */
