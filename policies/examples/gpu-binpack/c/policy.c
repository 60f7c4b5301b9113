// Pods that ask for GPUs go where they leave the fewest free; the others keep off nodes with GPUs. See ../README.md.
#include "pintle.h"

static pintle_str resource = PINTLE_STR("nvidia.com/gpu");
static bool column; // the resource is none of the record's own

static void configure(const pintle_settings *settings, pintle_needs *needs) {
	const char *at = 0;
	pintle_str key, name;
	pintle_json value;
	while (pintle_json_next(settings->json, &at, &key, &value)) {
		if (!pintle_equal(key, PINTLE_STR("resource"))) {
			pintle_add(&needs->error, PINTLE_STR("settings: unknown field \""));
			pintle_add(&needs->error, key);
			pintle_add(&needs->error, PINTLE_STR("\""));
			return;
		}
		if (!pintle_json_string(value, &name) || !name.n) {
			pintle_add(&needs->error, PINTLE_STR("settings.resource: want the name of a resource"));
			return;
		}
		column = !pintle_equal(name, resource);
		resource = pintle_keep(name);
	}
	if (!column) return;
	pintle_column(needs, PINTLE_ALLOCATABLE, resource);
	pintle_column(needs, PINTLE_REQUESTED, resource);
}

// one is inlined with constants for where the amounts stand, and each loop is a function of its own, with a copy of the
// table: what it needs fits into registers. The load that is further from n goes first, since whoever may read there may
// read what is before it: the machine checks n once.
static inline __attribute__((always_inline)) void one(const pintle_nodes *t, uint32_t i, const char *n, int64_t want, uint32_t full, uint32_t have_at, uint32_t used_at) {
	__asm__("" : "+r"(n));
	int64_t used = *(const int64_t *)(n + used_at) + want, have = *(const int64_t *)(n + have_at);
	if (used > have) t->verdicts[i] = full;
	else t->scores[i] = (int32_t)((uint64_t)used * 100 / (uint64_t)have);
}

#define OWN offsetof(pintle_node, gpu), offsetof(pintle_node, gpu_requested)
#define COLUMNS 128, 136

static __attribute__((noinline)) void fill_in_a_row(const pintle_nodes *nodes, int64_t want, uint32_t full) {
	const pintle_nodes t = *nodes;
	const char *n = (const char *)pintle_node_at(&t, 0);
	for (uint32_t i = 0; i < t.count; i++, n += t.stride) one(&t, i, n, want, full, OWN);
}

static __attribute__((noinline)) void fill(const pintle_nodes *nodes, int64_t want, uint32_t full) {
	const pintle_nodes t = *nodes;
	for (uint32_t i = 0; i < t.count; i++) one(&t, i, (const char *)pintle_node_at(&t, i), want, full, OWN);
}

static __attribute__((noinline)) void fill_columns(const pintle_nodes *nodes, int64_t want, uint32_t full) {
	const pintle_nodes t = *nodes;
	for (uint32_t i = 0; i < t.count; i++) one(&t, i, (const char *)pintle_node_at(&t, i), want, full, COLUMNS);
}

static void keep_off(const pintle_nodes *t) {
	for (uint32_t i = 0; i < t->count; i++) {
		const pintle_node *n = pintle_node_at(t, i);
		t->scores[i] = (column ? pintle_column_quantity(n, 0) : n->gpu) ? 0 : 100;
	}
}

static void place(const pintle_pod *pod, pintle_nodes *nodes) {
	int64_t want = pintle_requested(pod, resource);
	if (want <= 0) return keep_off(nodes);
	static pintle_buf reason;
	reason.n = 0;
	pintle_add(&reason, PINTLE_STR("too few free "));
	pintle_add(&reason, resource);
	uint32_t full = pintle_reason(nodes, pintle_text(&reason));
	if (column) fill_columns(nodes, want, full);
	else if (pintle_in_a_row(nodes)) fill_in_a_row(nodes, want, full);
	else fill(nodes, want, full);
}

PINTLE_CONFIGURE(configure)
PINTLE_PLACE(place)
