/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_MAGLEV_H
#define PLUM_MAGLEV_H

#include "forward.h"

/* Which backend a connection falls to: the same on every node that is asked. */

static __always_inline __u32 backend_slot(const struct pkt *p, __u16 flags)
{
	__u32 h = p->hash;

	if (flags & VIP_SOURCE_AFFINITY)
		h = mix(mix(0, p->saddr[0] ^ p->saddr[1]), p->saddr[2] ^ p->saddr[3]);
	return mix(h, 1) % MAGLEV_SLOTS;
}

/* The Maglev table's word for a slot. */
static __always_inline const struct backend *backend_at(__u64 backends, __u32 slot)
{
	struct maglev_key mk = { .backends = backends, .chunk = slot / MAGLEV_CHUNK };
	const struct maglev *table = bpf_map_lookup_elem(&plum_maglev, &mk);
	struct backend_key bk = { .backends = backends };

	if (!table)
		return NULL;
	bk.index = table->index[slot % MAGLEV_CHUNK];
	return bpf_map_lookup_elem(&plum_backend, &bk);
}

#endif /* PLUM_MAGLEV_H */
