// A waPC policy in C: it wants a label "team" on every object. It reads just enough of the JSON for that.
#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

IMPORT("wapc", "__guest_request") void guest_request(char *operation, char *payload);
IMPORT("wapc", "__guest_response") void guest_response(const char *ptr, unsigned len);
IMPORT("wapc", "__guest_error") void guest_error(const char *ptr, unsigned len);

static char operation[64], payload[1 << 20];
static int ready;

EXPORT("wapc_init") void wapc_init(void) { ready = 1; }

static int is(const char *s, unsigned n) {
	unsigned i = 0;
	while (i < n && s[i] && s[i] == operation[i]) i++;
	return i == n && !s[i];
}

static const char *find(const char *word, const char *at, const char *end) {
	for (; at < end; at++) {
		const char *a = at, *w = word;
		while (*w && a < end && *a == *w) a++, w++;
		if (!*w) return a;
	}
	return 0;
}

#define ANSWER(s) (guest_response(s, sizeof(s) - 1), 1)

EXPORT("__guest_call") int guest_call(unsigned operation_len, unsigned payload_len) {
	if (!ready || operation_len >= sizeof operation || payload_len >= sizeof payload) return 0;
	guest_request(operation, payload);
	if (is("validate_settings", operation_len)) return ANSWER("{\"valid\":true}");
	if (is("validate", operation_len)) {
		const char *end = payload + payload_len, *at = find("\"labels\":", payload, end);
		if (at && find("\"team\":", at, end)) return ANSWER("{\"accepted\":true}");
		return ANSWER("{\"accepted\":false,\"message\":\"label team is missing\"}");
	}
	guest_error("no such function", 16);
	return 0;
}
