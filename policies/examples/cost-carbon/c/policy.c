// Nodes that cost less and emit less come first, as their labels say. See ../README.md.
#include "pintle.h"

typedef struct {
	double weight, max;
	bool limited; // max holds
	uint32_t verdict;
	double least, most; // of the candidates, in one call
} measure;

static measure measures[2];
static const pintle_str names[2] = {PINTLE_STR("cost"), PINTLE_STR("carbon")};
static const pintle_str usual[2] = {PINTLE_STR("pintle.dev/cost-per-hour"), PINTLE_STR("pintle.dev/carbon-intensity")};
static const pintle_str reasons[2] = {PINTLE_STR("cost above the limit or unknown"), PINTLE_STR("carbon intensity above the limit or unknown")};

static void fail(pintle_needs *needs, pintle_str where, pintle_str what) {
	pintle_add(&needs->error, PINTLE_STR("settings"));
	if (where.n) pintle_add(&needs->error, PINTLE_STR("."));
	pintle_add(&needs->error, where);
	pintle_add(&needs->error, PINTLE_STR(": "));
	pintle_add(&needs->error, what);
}

static bool number(pintle_json v, double *to) { return pintle_json_double(v, to) && *to >= 0; }

static void configure(const pintle_settings *settings, pintle_needs *needs) {
	const char *at = 0;
	pintle_str key;
	pintle_json value;
	bool any = false;
	pintle_str labels[2] = {usual[0], usual[1]};
	while (pintle_json_next(settings->json, &at, &key, &value)) {
		uint32_t i = 0;
		while (i < 2 && !pintle_equal(key, names[i])) i++;
		if (i == 2) return fail(needs, PINTLE_STR(""), PINTLE_STR("want cost and carbon, each {\"label\", \"weight\", \"max\"}"));
		measure *m = &measures[i];
		const char *in = 0;
		pintle_json field;
		if (pintle_json_type(value) != '{') return fail(needs, names[i], PINTLE_STR("want {\"label\", \"weight\", \"max\"}"));
		m->weight = 1;
		while (pintle_json_next(value, &in, &key, &field)) {
			if (pintle_equal(key, PINTLE_STR("label")) && pintle_json_string(field, &labels[i]) && labels[i].n) continue;
			if (pintle_equal(key, PINTLE_STR("weight")) && number(field, &m->weight)) continue;
			if (pintle_equal(key, PINTLE_STR("max")) && number(field, &m->max) && (m->limited = true)) continue;
			return fail(needs, names[i], PINTLE_STR("want a label's key, and for weight and max numbers from 0 on"));
		}
		any |= m->weight > 0 || m->limited;
	}
	if (!any) return fail(needs, PINTLE_STR(""), PINTLE_STR("weigh or limit cost, carbon or both"));
	for (uint32_t i = 0; i < 2; i++) pintle_column(needs, PINTLE_LABEL_NUMBER, labels[i]);
}

static bool known(double v) { return v - v == 0; } // a finite number

static void place(const pintle_pod *pod, pintle_nodes *nodes) {
	(void)pod;
	for (uint32_t m = 0; m < 2; m++) {
		measures[m].verdict = pintle_reason(nodes, reasons[m]);
		measures[m].least = __builtin_inf(), measures[m].most = -__builtin_inf();
	}
	for (uint32_t i = 0; i < nodes->count; i++) {
		const pintle_node *n = pintle_node_at(nodes, i);
		for (uint32_t m = 0; m < 2 && !nodes->verdicts[i]; m++) {
			double v = pintle_column_number(n, m);
			if (measures[m].limited && !(known(v) && v <= measures[m].max)) nodes->verdicts[i] = measures[m].verdict;
		}
		if (nodes->verdicts[i]) continue;
		for (uint32_t m = 0; m < 2; m++) {
			double v = pintle_column_number(n, m);
			if (!known(v)) continue;
			if (v < measures[m].least) measures[m].least = v;
			if (v > measures[m].most) measures[m].most = v;
		}
	}
	double weights = measures[0].weight + measures[1].weight;
	if (weights == 0) return;
	for (uint32_t i = 0; i < nodes->count; i++) {
		if (nodes->verdicts[i]) continue;
		const pintle_node *n = pintle_node_at(nodes, i);
		double good = 0;
		for (uint32_t m = 0; m < 2; m++) {
			double v = pintle_column_number(n, m), span = measures[m].most - measures[m].least;
			if (known(v)) good += measures[m].weight * (span > 0 ? (measures[m].most - v) / span : 1);
		}
		nodes->scores[i] = (int32_t)(100 * good / weights + 0.5);
	}
}

PINTLE_CONFIGURE(configure)
PINTLE_PLACE(place)
