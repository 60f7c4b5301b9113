// Objects carry the labels that the settings require, and pods' images come from the registries that they allow. See ../README.md.
#include "pintle.h"

static pintle_str *labels, *registries;
static uint32_t label_count, registry_count;

// strings keeps a list of strings that aren't empty. False: the value is something else.
static bool strings(pintle_json list, pintle_str **to, uint32_t *count) {
	const char *at = 0;
	pintle_json element;
	pintle_str s;
	if (pintle_json_type(list) != '[') return false;
	for (*count = 0; pintle_json_next(list, &at, 0, &element); ++*count)
		if (!pintle_json_string(element, &s) || s.n == 0) return false;
	*to = pintle_keep_array(*count, sizeof(pintle_str));
	at = 0;
	for (uint32_t i = 0; pintle_json_next(list, &at, 0, &element) && pintle_json_string(element, &s); i++) (*to)[i] = pintle_keep(s);
	return true;
}

static void configure(const pintle_settings *settings, pintle_needs *needs) {
	const char *at = 0;
	pintle_str key;
	pintle_json value;
	while (pintle_json_next(settings->json, &at, &key, &value)) {
		if (pintle_equal(key, PINTLE_STR("labels"))) {
			if (!strings(value, &labels, &label_count)) {
				pintle_add(&needs->error, PINTLE_STR("settings.labels: want a list of label keys"));
				return;
			}
		} else if (pintle_equal(key, PINTLE_STR("registries"))) {
			if (!strings(value, &registries, &registry_count)) {
				pintle_add(&needs->error, PINTLE_STR("settings.registries: want a list of registries"));
				return;
			}
		} else {
			pintle_add(&needs->error, PINTLE_STR("settings: unknown field \""));
			pintle_add(&needs->error, key);
			pintle_add(&needs->error, PINTLE_STR("\""));
			return;
		}
	}
	if (label_count + registry_count == 0)
		pintle_add(&needs->error, PINTLE_STR("settings: name required labels, allowed registries, or both"));
	needs->wants = registry_count ? PINTLE_WANT_JSON : PINTLE_WANT_NOTHING;
}

// A label that an update finds missing may stay missing, so that objects from before the policy can be let go.
static void check_labels(const pintle_request *r, pintle_response *out) {
	for (uint32_t i = 0; i < label_count; i++) {
		if (pintle_pairs_get(r->meta.labels, labels[i], 0)) continue;
		if (r->old_meta.message_.p && !pintle_pairs_get(r->old_meta.labels, labels[i], 0)) continue;
		pintle_add(&out->message, out->message.n ? PINTLE_STR(", ") : PINTLE_STR("missing required labels: "));
		pintle_add(&out->message, labels[i]);
	}
}

// full adds what the short names of Docker's registry leave out.
static pintle_str full(pintle_str image) {
	static pintle_buf name;
	uint32_t slash = 0;
	while (slash < image.n && image.p[slash] != '/') slash++;
	bool host = false;
	if (slash < image.n) {
		for (uint32_t i = 0; i < slash; i++) host |= image.p[i] == '.' || image.p[i] == ':';
		if (host || pintle_equal((pintle_str){image.p, slash}, PINTLE_STR("localhost"))) return image;
	}
	name.n = 0;
	pintle_add(&name, slash < image.n ? PINTLE_STR("docker.io/") : PINTLE_STR("docker.io/library/"));
	pintle_add(&name, image);
	return pintle_text(&name);
}

// within: the entry is the whole name, or ends where a part of the name does.
static bool within(pintle_str image, pintle_str entry) {
	if (!pintle_starts(image, entry)) return false;
	if (image.n == entry.n || entry.p[entry.n - 1] == '/') return true;
	char next = image.p[entry.n];
	if (next == '/' || next == '@') return true;
	if (next != ':') return false;
	for (uint32_t i = 0; i < entry.n; i++) // a tag follows a repository; after a host's name it would be a port
		if (entry.p[i] == '/') return true;
	return false;
}

static bool check_image(pintle_str what, pintle_json named, pintle_json value, pintle_response *out) {
	pintle_str image = {"", 0}, name = {"", 0};
	pintle_json_string(value, &image);
	pintle_str whole = full(image);
	for (uint32_t i = 0; i < registry_count; i++)
		if (within(whole, registries[i])) return true;
	pintle_json_string(pintle_json_get(named, PINTLE_STR("name")), &name);
	pintle_add(&out->message, what);
	pintle_add(&out->message, PINTLE_STR(" \""));
	pintle_add(&out->message, name);
	pintle_add(&out->message, PINTLE_STR("\": image \""));
	pintle_add(&out->message, image);
	pintle_add(&out->message, PINTLE_STR("\" is not from an allowed registry"));
	return false;
}

static void check_images(const pintle_request *r, pintle_response *out) {
	pintle_json spec = pintle_pod_spec(r->kind, pintle_json_of(r->object));
	if (!spec.p) return;
	pintle_json old = pintle_pod_spec(r->kind, pintle_json_of(r->old_object));
	if (old.p && pintle_equal(pintle_json_raw(old), pintle_json_raw(spec))) return; // what was there before may stay
	const pintle_str lists[] = {PINTLE_STR("initContainers"), PINTLE_STR("containers"), PINTLE_STR("ephemeralContainers")};
	for (uint32_t i = 0; i < 3; i++) {
		const char *at = 0;
		pintle_json list = pintle_json_get(spec, lists[i]), container;
		while (pintle_json_next(list, &at, 0, &container))
			if (!check_image(PINTLE_STR("container"), container, pintle_json_get(container, PINTLE_STR("image")), out)) return;
	}
	const char *at = 0;
	pintle_json volumes = pintle_json_get(spec, PINTLE_STR("volumes")), volume;
	while (pintle_json_next(volumes, &at, 0, &volume)) {
		pintle_json image = pintle_json_get(volume, PINTLE_STR("image"));
		if (image.p && !check_image(PINTLE_STR("volume"), volume, pintle_json_get(image, PINTLE_STR("reference")), out)) return;
	}
}

static void admit(const pintle_request *r, pintle_response *out) {
	if (r->operation != PINTLE_CREATE && r->operation != PINTLE_UPDATE) return;
	if (r->subresource.n && !pintle_equal(r->subresource, PINTLE_STR("ephemeralcontainers"))) return;
	check_labels(r, out);
	if (!out->message.n && registry_count) check_images(r, out);
}

PINTLE_CONFIGURE(configure)
PINTLE_ADMIT(admit)
