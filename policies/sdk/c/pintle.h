// Policies for Pintle in C: ABI pintle/v1 (../../abi/README.md), in one header and without a libc.
//
//	clang --target=wasm32 -O2 -mbulk-memory -ffreestanding -fno-builtin -nostdlib -Wl,--no-entry -Wl,--strip-all
//	      -I sdk/c -o policy.wasm policy.c
//
// Include it in one file, write the functions that the policy takes part in, and name them:
//
//	PINTLE_CONFIGURE(configure)   void configure(const pintle_settings *, pintle_needs *)
//	PINTLE_ADMIT(admit)           void admit(const pintle_request *, pintle_response *)
//	PINTLE_PLACE(place)           void place(const pintle_pod *, pintle_nodes *)
//	PINTLE_PERMIT(permit)         void permit(const pintle_permit_request *, pintle_permit_response *)
//	PINTLE_QUEUE_KEY(key)         int64_t key(const pintle_pod *)
//	PINTLE_POST_FILTER(explain)   void explain(const pintle_post_filter_request *, pintle_post_filter_response *)
//
// A module exports what is named, and takes part in nothing else. Whatever is read from a message (pintle_str, pintle_json)
// points into it and is void when the function returns; pintle_keep copies what must stay. A message that is no protobuf ends
// the call with a trap, as the ABI wants it.
#ifndef PINTLE_H
#define PINTLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PINTLE_EXPORT(name) __attribute__((export_name(#name), used))
#define PINTLE_IMPORT(name) __attribute__((import_module("pintle"), import_name(#name)))
#define PINTLE_UNUSED __attribute__((unused))

// ---- what a compiler may call where there is no libc

__attribute__((weak)) void *memcpy(void *to, const void *from, size_t n) { return __builtin_memcpy(to, from, n); }
__attribute__((weak)) void *memmove(void *to, const void *from, size_t n) { return __builtin_memmove(to, from, n); }
__attribute__((weak)) void *memset(void *to, int c, size_t n) { return __builtin_memset(to, c, n); }

// ---- strings: bytes that lie somewhere, without a zero at their end

typedef struct {
	const char *p;
	uint32_t n;
} pintle_str;

#define PINTLE_STR(literal) ((pintle_str){literal, sizeof(literal) - 1})

PINTLE_UNUSED static bool pintle_equal(pintle_str a, pintle_str b) {
	if (a.n != b.n) return false;
	for (uint32_t i = 0; i < a.n; i++)
		if (a.p[i] != b.p[i]) return false;
	return true;
}

PINTLE_UNUSED static bool pintle_starts(pintle_str s, pintle_str prefix) {
	return s.n >= prefix.n && pintle_equal((pintle_str){s.p, prefix.n}, prefix);
}

// ---- memory: it only grows, by doubling, so that what is left behind stays smaller than what is used

extern unsigned char __heap_base;
static uintptr_t pintle_top_;

// pintle_heap_ returns n bytes, aligned to 8, that stay; 0 when there is no room.
static void *pintle_heap_(size_t n) {
	if (pintle_top_ == 0) pintle_top_ = ((uintptr_t)&__heap_base + 7) & ~(uintptr_t)7;
	if (n > 0x7fffffff) return 0;
	n = (n + 7) & ~(size_t)7;
	uint64_t end = (uint64_t)pintle_top_ + n, have = (uint64_t)__builtin_wasm_memory_size(0) << 16;
	if (end > have && __builtin_wasm_memory_grow(0, (end - have + 0xffff) >> 16) == (size_t)-1) return 0;
	void *p = (void *)pintle_top_;
	pintle_top_ += n;
	return p;
}

// What was read in a call stays when a larger piece takes the smaller one's place.
static struct {
	char *p;
	uint32_t size, used;
	bool over; // the call whose messages these are has returned
} pintle_scratch_;

// pintle_alloc_ returns n bytes that last as long as the call.
static void *pintle_alloc_(uint32_t n) {
	if (pintle_scratch_.over) pintle_scratch_.used = 0, pintle_scratch_.over = false;
	if (n > 0x7fffff00) return 0;
	n = (n + 7) & ~7u;
	if (n > pintle_scratch_.size - pintle_scratch_.used) {
		uint32_t size = pintle_scratch_.size < 0x3fffffff ? pintle_scratch_.size * 2 : 0x7fffff00;
		if (size < 4096) size = 4096;
		if (size < n) size = n;
		char *p = pintle_heap_(size);
		if (!p) return 0;
		pintle_scratch_.p = p, pintle_scratch_.size = size, pintle_scratch_.used = 0;
	}
	void *p = pintle_scratch_.p + pintle_scratch_.used;
	pintle_scratch_.used += n;
	return p;
}

// pintle_keep copies what must outlast the call. It is never freed: it is for settings.
PINTLE_UNUSED static pintle_str pintle_keep(pintle_str s) {
	char *p = pintle_heap_(s.n);
	if (!p) __builtin_trap();
	__builtin_memcpy(p, s.p, s.n);
	return (pintle_str){p, s.n};
}

// pintle_keep_array is room for n things of a size, for as long as the instance lives.
PINTLE_UNUSED static void *pintle_keep_array(uint32_t n, uint32_t size) {
	void *p = (uint64_t)n * size > 0x7fffffff ? 0 : pintle_heap_((size_t)n * size);
	if (!p) __builtin_trap();
	return p;
}

// ---- text that is put together

typedef struct {
	char *p;
	uint32_t n, size;
} pintle_buf;

static void pintle_room_(pintle_buf *b, uint32_t n) {
	if (n <= b->size - b->n) return;
	uint64_t size = b->size ? (uint64_t)b->size * 2 : 256;
	while (size < (uint64_t)b->n + n) size *= 2;
	char *p = pintle_heap_(size);
	if (!p) __builtin_trap();
	__builtin_memcpy(p, b->p, b->n);
	b->p = p, b->size = size;
}

PINTLE_UNUSED static void pintle_add(pintle_buf *b, pintle_str s) {
	pintle_room_(b, s.n);
	__builtin_memcpy(b->p + b->n, s.p, s.n);
	b->n += s.n;
}

PINTLE_UNUSED static void pintle_add_number(pintle_buf *b, int64_t v) {
	char digits[20];
	uint32_t i = sizeof digits;
	uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;
	do digits[--i] = '0' + u % 10;
	while (u /= 10);
	if (v < 0) pintle_add(b, PINTLE_STR("-"));
	pintle_add(b, (pintle_str){digits + i, sizeof digits - i});
}

PINTLE_UNUSED static pintle_str pintle_text(const pintle_buf *b) { return (pintle_str){b->p, b->n}; }

// ---- protobuf, read in place

typedef struct {
	const uint8_t *p, *end;
} pintle_msg_;

typedef struct {
	uint32_t number;
	uint64_t value;   // of a number
	pintle_str bytes; // of bytes, strings and messages
} pintle_field_;

static uint64_t pintle_varint_(pintle_msg_ *m) {
	if (m->p < m->end && *m->p < 0x80) return *m->p++;
	uint64_t v = 0;
	for (uint32_t shift = 0; shift < 64; shift += 7) {
		if (m->p >= m->end) __builtin_trap();
		uint8_t c = *m->p++;
		v |= (uint64_t)(c & 0x7f) << shift;
		if (c < 0x80) return v;
	}
	__builtin_trap();
}

// pintle_next_ takes the next field. False at the end.
static bool pintle_next_(pintle_msg_ *m, pintle_field_ *f) {
	if (m->p >= m->end) return false;
	uint64_t tag = pintle_varint_(m), n;
	f->number = tag >> 3, f->value = 0, f->bytes = (pintle_str){0, 0};
	switch (tag & 7) {
	case 0: f->value = pintle_varint_(m); return true;
	case 2: n = pintle_varint_(m); break;
	case 1: n = 8; break; // of a later version: skipped
	case 5: n = 4; break;
	default: __builtin_trap();
	}
	if (n > (uint64_t)(m->end - m->p)) __builtin_trap();
	f->bytes = (pintle_str){(const char *)m->p, n};
	m->p += n;
	return true;
}

static pintle_msg_ pintle_msg_of_(pintle_str s) { return (pintle_msg_){(const uint8_t *)s.p, (const uint8_t *)s.p + s.n}; }

// ---- protobuf, written

static void pintle_put_varint_(pintle_buf *b, uint64_t v) {
	pintle_room_(b, 10);
	for (; v >= 0x80; v >>= 7) b->p[b->n++] = (char)(v | 0x80);
	b->p[b->n++] = (char)v;
}

static void pintle_put_number_(pintle_buf *b, uint32_t field, uint64_t v) {
	if (v == 0) return;
	pintle_put_varint_(b, field << 3);
	pintle_put_varint_(b, v);
}

static void pintle_put_bytes_(pintle_buf *b, uint32_t field, pintle_str s) {
	pintle_put_varint_(b, field << 3 | 2);
	pintle_put_varint_(b, s.n);
	pintle_add(b, s);
}

static void pintle_put_string_(pintle_buf *b, uint32_t field, pintle_str s) {
	if (s.n) pintle_put_bytes_(b, field, s);
}

static pintle_buf pintle_out_; // the message that the last call returned

static uint64_t pintle_return_(void) {
	pintle_scratch_.over = true;
	return pintle_out_.n ? (uint64_t)(uintptr_t)pintle_out_.p << 32 | pintle_out_.n : 0;
}

// ---- pairs: labels, annotations and selectors, left where they are

typedef struct {
	pintle_str message_; // that has them
	uint32_t field_;
} pintle_pairs;

// pintle_pairs_next walks them. at starts as {0, 0}; false at the end.
PINTLE_UNUSED static bool pintle_pairs_next(pintle_pairs pairs, pintle_str *at, pintle_str *key, pintle_str *value) {
	if (!at->p) *at = pairs.message_;
	pintle_msg_ m = pintle_msg_of_(*at);
	pintle_field_ f;
	while (pintle_next_(&m, &f)) {
		if (f.number != pairs.field_) continue;
		*key = *value = (pintle_str){"", 0};
		pintle_msg_ pair = pintle_msg_of_(f.bytes);
		while (pintle_next_(&pair, &f)) {
			if (f.number == 1) *key = f.bytes;
			if (f.number == 2) *value = f.bytes;
		}
		*at = (pintle_str){(const char *)m.p, m.end - m.p};
		return true;
	}
	return false;
}

// pintle_pairs_get finds the value of a key. False: there is none.
PINTLE_UNUSED static bool pintle_pairs_get(pintle_pairs pairs, pintle_str key, pintle_str *value) {
	pintle_str at = {0, 0}, k, v;
	while (pintle_pairs_next(pairs, &at, &k, &v))
		if (pintle_equal(k, key)) {
			if (value) *value = v;
			return true;
		}
	return false;
}

// ---- JSON, read in place. A value is where its text begins; what lies in it is looked at when it is asked for. The host's
// JSON is well formed; of other text nothing is said but that reading it stays within it.

typedef struct {
	const char *p, *end; // p is 0: there is no such value
} pintle_json;

static const char *pintle_space_(const char *p, const char *end) {
	while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r')) p++;
	return p;
}

// pintle_past_string_ is where the string that begins at p has ended.
static const char *pintle_past_string_(const char *p, const char *end) {
	for (p++; p < end; p++) {
		if (*p == '"') return p + 1;
		if (*p == '\\') p++;
	}
	return end;
}

static const char *pintle_past_(const char *p, const char *end) {
	uint32_t depth = 0;
	if (p < end && *p == '"') return pintle_past_string_(p, end);
	if (p < end && (*p == '{' || *p == '[')) {
		while (p < end) switch (*p) {
			case '"': p = pintle_past_string_(p, end); break;
			case '{': case '[': depth++, p++; break;
			case '}': case ']':
				p++;
				if (--depth == 0) return p;
				break;
			default: p++;
			}
		return end;
	}
	while (p < end && *p != ',' && *p != '}' && *p != ']' && *p > ' ') p++;
	return p;
}

PINTLE_UNUSED static pintle_json pintle_json_of(pintle_str text) {
	const char *end = text.p + text.n, *p = pintle_space_(text.p, end);
	return p < end ? (pintle_json){p, end} : (pintle_json){0, 0};
}

// pintle_json_type is '{', '[', '"', 't', 'f', 'n', '0' for a number, or 0 for no value.
PINTLE_UNUSED static char pintle_json_type(pintle_json v) {
	if (!v.p) return 0;
	return *v.p == '-' || (*v.p >= '0' && *v.p <= '9') ? '0' : *v.p;
}

PINTLE_UNUSED static bool pintle_json_true(pintle_json v) { return pintle_json_type(v) == 't'; }

// pintle_json_raw is the text of a value.
PINTLE_UNUSED static pintle_str pintle_json_raw(pintle_json v) {
	return v.p ? (pintle_str){v.p, pintle_past_(v.p, v.end) - v.p} : (pintle_str){"", 0};
}

static uint32_t pintle_hex4_(const char *p, const char *end) {
	uint32_t v = 0;
	for (int i = 0; i < 4; i++, p++) {
		if (p >= end) return 0xfffd;
		char c = *p | 0x20;
		if (*p >= '0' && *p <= '9') v = v << 4 | (*p - '0');
		else if (c >= 'a' && c <= 'f') v = v << 4 | (c - 'a' + 10);
		else return 0xfffd;
	}
	return v;
}

// pintle_unescape_ takes the text between two quotes. Without a backslash it is the string.
static pintle_str pintle_unescape_(const char *p, const char *end) {
	const char *q = p;
	while (q < end && *q != '\\') q++;
	if (q == end) return (pintle_str){p, end - p};
	char *to = pintle_alloc_(end - p + 4), *t = to; // an escape that is cut off can be shorter than what it reads as
	if (!to) __builtin_trap();
	while (p < end) {
		if (*p != '\\' || p + 1 >= end) {
			*t++ = *p++;
			continue;
		}
		char c = p[1];
		p += 2;
		switch (c) {
		case 'n': *t++ = '\n'; break;
		case 't': *t++ = '\t'; break;
		case 'r': *t++ = '\r'; break;
		case 'b': *t++ = '\b'; break;
		case 'f': *t++ = '\f'; break;
		default: *t++ = c; break;
		case 'u': {
			uint32_t u = pintle_hex4_(p, end);
			p = end - p < 4 ? end : p + 4;
			if (u >= 0xd800 && u < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
				uint32_t low = pintle_hex4_(p + 2, end);
				if (low >= 0xdc00 && low < 0xe000) u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00), p += 6;
			}
			if (u >= 0xd800 && u < 0xe000) u = 0xfffd;
			if (u < 0x80) *t++ = u;
			else if (u < 0x800) *t++ = 0xc0 | u >> 6, *t++ = 0x80 | (u & 0x3f);
			else if (u < 0x10000) *t++ = 0xe0 | u >> 12, *t++ = 0x80 | (u >> 6 & 0x3f), *t++ = 0x80 | (u & 0x3f);
			else *t++ = 0xf0 | u >> 18, *t++ = 0x80 | (u >> 12 & 0x3f), *t++ = 0x80 | (u >> 6 & 0x3f), *t++ = 0x80 | (u & 0x3f);
		}
		}
	}
	return (pintle_str){to, t - to};
}

static pintle_str pintle_string_at_(const char *p, const char *past) { // past: behind the closing quote
	return pintle_unescape_(p + 1, past - 1 > p ? past - 1 : p + 1);
}

// pintle_json_string reads a string. False: it is none.
PINTLE_UNUSED static bool pintle_json_string(pintle_json v, pintle_str *s) {
	if (pintle_json_type(v) != '"') return false;
	*s = pintle_string_at_(v.p, pintle_past_string_(v.p, v.end));
	return true;
}

// pintle_json_is says whether a value is this string.
PINTLE_UNUSED static bool pintle_json_is(pintle_json v, pintle_str s) {
	pintle_str have;
	return pintle_json_string(v, &have) && pintle_equal(have, s);
}

// pintle_json_int reads a whole number. False: it is none.
PINTLE_UNUSED static bool pintle_json_int(pintle_json v, int64_t *to) {
	if (pintle_json_type(v) != '0') return false;
	pintle_str s = pintle_json_raw(v);
	bool minus = *s.p == '-';
	uint64_t u = 0;
	if (s.n == minus || s.n - minus > 18) return false;
	for (uint32_t i = minus; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9') return false;
		u = u * 10 + (s.p[i] - '0');
	}
	*to = minus ? -(int64_t)u : (int64_t)u;
	return true;
}

// pintle_json_double reads a number without an exponent. False: it is none.
PINTLE_UNUSED static bool pintle_json_double(pintle_json v, double *to) {
	if (pintle_json_type(v) != '0') return false;
	pintle_str s = pintle_json_raw(v);
	double number = 0, unit = 1;
	bool point = false;
	for (uint32_t i = *s.p == '-'; i < s.n; i++) {
		if (s.p[i] == '.' && !point) point = true;
		else if (s.p[i] < '0' || s.p[i] > '9') return false;
		else number = number * 10 + (s.p[i] - '0'), unit = point ? unit * 10 : 1;
	}
	*to = (*s.p == '-' ? -number : number) / unit;
	return true;
}

// pintle_json_next walks the elements of an array, or with a key the members of an object. at starts as 0; false at the end.
PINTLE_UNUSED static bool pintle_json_next(pintle_json of, const char **at, pintle_str *key, pintle_json *value) {
	char type = pintle_json_type(of);
	if (type != (key ? '{' : '[')) return false;
	const char *p = pintle_space_(*at ? *at : of.p + 1, of.end);
	if (*at) {
		if (p >= of.end || *p != ',') return false;
		p = pintle_space_(p + 1, of.end);
	}
	if (p >= of.end || *p == '}' || *p == ']') return false;
	if (key) {
		if (*p != '"') return false;
		const char *past = pintle_past_string_(p, of.end);
		*key = pintle_string_at_(p, past);
		p = pintle_space_(past, of.end);
		if (p >= of.end || *p != ':') return false;
		p = pintle_space_(p + 1, of.end);
		if (p >= of.end) return false;
	}
	*value = (pintle_json){p, of.end};
	*at = pintle_past_(p, of.end);
	return *at > p;
}

// pintle_json_get is an object's member, or no value. A member that is null is none.
PINTLE_UNUSED static pintle_json pintle_json_get(pintle_json of, pintle_str name) {
	if (pintle_json_type(of) == '{')
		for (const char *p = of.p + 1;;) { // like pintle_json_next, but passes over what isn't asked for only when it must
			p = pintle_space_(p, of.end);
			if (p >= of.end || *p != '"') break;
			const char *past = pintle_past_string_(p, of.end);
			pintle_str key = pintle_string_at_(p, past);
			p = pintle_space_(past, of.end);
			if (p >= of.end || *p != ':') break;
			p = pintle_space_(p + 1, of.end);
			if (p >= of.end) break;
			if (pintle_equal(key, name)) return *p == 'n' ? (pintle_json){0, 0} : (pintle_json){p, of.end};
			p = pintle_space_(pintle_past_(p, of.end), of.end);
			if (p >= of.end || *p != ',') break;
			p++;
		}
	return (pintle_json){0, 0};
}

// pintle_pod_spec is the spec of the pod that an object is, or that it makes by its template; no value: it makes none.
PINTLE_UNUSED static pintle_json pintle_pod_spec(pintle_str kind, pintle_json object) {
	pintle_json spec = pintle_json_get(object, PINTLE_STR("spec"));
	if (pintle_equal(kind, PINTLE_STR("Pod"))) return spec;
	if (pintle_equal(kind, PINTLE_STR("PodTemplate"))) spec = object;
	if (pintle_equal(kind, PINTLE_STR("CronJob")))
		spec = pintle_json_get(pintle_json_get(spec, PINTLE_STR("jobTemplate")), PINTLE_STR("spec"));
	return pintle_json_get(pintle_json_get(spec, PINTLE_STR("template")), PINTLE_STR("spec"));
}

// ---- the host

PINTLE_IMPORT(intern) uint32_t pintle_intern_(const char *p, uint32_t n);
PINTLE_IMPORT(log) void pintle_log_(uint32_t level, const char *p, uint32_t n);
PINTLE_IMPORT(now_ms) int64_t pintle_now_ms(void); // needs the capability "clock"; 0 without it
PINTLE_IMPORT(lookup) uint64_t pintle_lookup_(const char *p, uint32_t n);

enum { PINTLE_DEBUG, PINTLE_INFO, PINTLE_WARN, PINTLE_ERROR };

PINTLE_UNUSED static void pintle_log(uint32_t level, pintle_str s) { pintle_log_(level, s.p, s.n); }

// pintle_intern returns the id that node records have for a string.
PINTLE_UNUSED static uint32_t pintle_intern(pintle_str s) { return pintle_intern_(s.p, s.n); }

// pintle_lookup reads a cluster object, or with an empty name all of a namespace: {"items": […]}. It needs the capability
// "read:group/resource"; what isn't there is no value.
PINTLE_UNUSED static pintle_json pintle_lookup(pintle_str path) {
	uint64_t at = pintle_lookup_(path.p, path.n);
	return pintle_json_of((pintle_str){(const char *)(uintptr_t)(at >> 32), (uint32_t)at});
}

// ---- settings

typedef struct {
	pintle_json json;  // no value: the policy has no settings
	pintle_str policy; // name of the policy object
	pintle_str message_;
} pintle_settings;

enum { PINTLE_WANT_JSON, PINTLE_WANT_NOTHING, PINTLE_WANT_PROTOBUF };
enum { PINTLE_LABEL, PINTLE_LABEL_NUMBER, PINTLE_ALLOCATABLE, PINTLE_REQUESTED };

typedef struct {
	pintle_buf error; // what is wrong with the settings; empty: they are taken
	uint32_t wants;   // what admission requests carry beside meta
	pintle_buf columns_;
} pintle_needs;

// pintle_granted says whether the policy object grants a capability.
PINTLE_UNUSED static bool pintle_granted(const pintle_settings *s, pintle_str capability) {
	pintle_msg_ m = pintle_msg_of_(s->message_);
	pintle_field_ f;
	while (pintle_next_(&m, &f))
		if (f.number == 4 && pintle_equal(f.bytes, capability)) return true;
	return false;
}

// pintle_column asks for eight more bytes in each node record, in the order of the calls.
PINTLE_UNUSED static void pintle_column(pintle_needs *n, uint32_t kind, pintle_str name) {
	pintle_buf b = {0};
	pintle_put_number_(&b, 1, kind);
	pintle_put_string_(&b, 2, name);
	pintle_put_bytes_(&n->columns_, 3, pintle_text(&b));
}

PINTLE_EXPORT(pintle_abi) uint32_t pintle_abi(void) { return 1 << 16 | 1; }
PINTLE_EXPORT(pintle_alloc) void *pintle_alloc(uint32_t size) { return pintle_alloc_(size); }

#define PINTLE_CONFIGURE(function) \
	PINTLE_EXPORT(pintle_configure) uint64_t pintle_configure(const char *p, uint32_t n) { \
		pintle_settings s = {.message_ = {p, n}}; \
		pintle_needs needs = {0}; \
		pintle_msg_ m = pintle_msg_of_(s.message_); \
		pintle_field_ f; \
		while (pintle_next_(&m, &f)) { \
			if (f.number == 2) s.json = pintle_json_of(f.bytes); \
			if (f.number == 3) s.policy = f.bytes; \
		} \
		function(&s, &needs); \
		pintle_out_.n = 0; \
		pintle_put_string_(&pintle_out_, 1, pintle_text(&needs.error)); \
		pintle_put_number_(&pintle_out_, 2, needs.wants); \
		pintle_add(&pintle_out_, pintle_text(&needs.columns_)); \
		return pintle_return_(); \
	}

// ---- admission

enum { PINTLE_CREATE = 1, PINTLE_UPDATE, PINTLE_DELETE, PINTLE_CONNECT };

typedef struct {
	pintle_str message_; // absent: p is 0
	pintle_pairs labels, annotations;
} pintle_meta;

typedef struct {
	uint32_t operation; // PINTLE_CREATE …
	bool dry_run;
	pintle_str uid, group, version, kind, resource, subresource, namespace, name, username;
	pintle_meta meta, old_meta;    // of the object; of the object as it was
	pintle_str object, old_object; // as the policy wants them
} pintle_request;

enum { PINTLE_JSON_PATCH, PINTLE_MERGE_PATCH, PINTLE_OBJECT };

// pintle_response allows, as long as message is empty and refused is not set.
typedef struct {
	bool refused;
	uint32_t code;      // HTTP status of a refusal; 0: 403
	pintle_buf message; // why it is refused, for a person
	pintle_str reason;  // likewise, for a program
	pintle_str patch;   // of a mutating policy
	uint32_t patch_type;
	pintle_buf more_;
} pintle_response;

PINTLE_UNUSED static void pintle_warn(pintle_response *r, pintle_str text) { pintle_put_bytes_(&r->more_, 5, text); }

PINTLE_UNUSED static void pintle_audit(pintle_response *r, pintle_str key, pintle_str value) {
	static pintle_buf pair;
	pair.n = 0;
	pintle_put_string_(&pair, 1, key);
	pintle_put_string_(&pair, 2, value);
	pintle_put_bytes_(&r->more_, 6, pintle_text(&pair));
}

static void pintle_three_(pintle_str message, pintle_str *one, pintle_str *two, pintle_str *three) {
	pintle_msg_ m = pintle_msg_of_(message);
	pintle_field_ f;
	while (pintle_next_(&m, &f)) {
		if (f.number == 1 && one) *one = f.bytes;
		if (f.number == 2 && two) *two = f.bytes;
		if (f.number == 3 && three) *three = f.bytes;
	}
}

static pintle_meta pintle_meta_of_(pintle_str s) { return (pintle_meta){s, {s, 3}, {s, 4}}; }

PINTLE_UNUSED static void pintle_request_of_(pintle_str s, pintle_request *r) {
	pintle_msg_ m = pintle_msg_of_(s);
	pintle_field_ f;
	while (pintle_next_(&m, &f)) switch (f.number) {
		case 1: r->uid = f.bytes; break;
		case 2: r->operation = f.value; break;
		case 3: pintle_three_(f.bytes, &r->group, &r->version, &r->kind); break;
		case 4: pintle_three_(f.bytes, 0, 0, &r->resource); break;
		case 5: r->subresource = f.bytes; break;
		case 6: r->namespace = f.bytes; break;
		case 7: r->name = f.bytes; break;
		case 8: pintle_three_(f.bytes, &r->username, 0, 0); break;
		case 9: r->dry_run = f.value; break;
		case 10: r->meta = pintle_meta_of_(f.bytes); break;
		case 11: r->old_meta = pintle_meta_of_(f.bytes); break;
		case 12: r->object = f.bytes; break;
		case 13: r->old_object = f.bytes; break;
		}
}

PINTLE_UNUSED static uint64_t pintle_respond_(pintle_response *r) {
	bool allowed = !r->refused && !r->message.n;
	pintle_out_.n = 0;
	pintle_put_number_(&pintle_out_, 1, allowed);
	if (!allowed) {
		pintle_put_number_(&pintle_out_, 2, r->code);
		pintle_put_string_(&pintle_out_, 3, pintle_text(&r->message));
		pintle_put_string_(&pintle_out_, 4, r->reason);
	}
	pintle_add(&pintle_out_, pintle_text(&r->more_));
	pintle_put_string_(&pintle_out_, 7, r->patch);
	pintle_put_number_(&pintle_out_, 8, r->patch_type);
	return pintle_return_();
}

#define PINTLE_ADMIT(function) \
	static pintle_response pintle_response_; \
	PINTLE_EXPORT(pintle_admit) uint64_t pintle_admit(const char *p, uint32_t n) { \
		pintle_request request = {0}; \
		pintle_request_of_((pintle_str){p, n}, &request); \
		pintle_response *r = &pintle_response_; \
		*r = (pintle_response){.message = {r->message.p, 0, r->message.size}, .more_ = {r->more_.p, 0, r->more_.size}}; \
		function(&request, r); \
		return pintle_respond_(r); \
	}

// ---- scheduling

typedef struct {
	pintle_str uid, namespace, name, priority_class, scheduler_name, service_account, owner_kind, owner_name;
	pintle_pairs labels, annotations, node_selector;
	int32_t priority;
	int64_t created_ms;
	pintle_str message_;
} pintle_pod;

PINTLE_UNUSED static pintle_pod pintle_pod_of_(pintle_str s) {
	pintle_pod pod = {.labels = {s, 4}, .annotations = {s, 5}, .node_selector = {s, 11}, .message_ = s};
	pintle_msg_ m = pintle_msg_of_(s);
	pintle_field_ f;
	while (pintle_next_(&m, &f)) switch (f.number) {
		case 1: pod.uid = f.bytes; break;
		case 2: pod.namespace = f.bytes; break;
		case 3: pod.name = f.bytes; break;
		case 6: pod.priority = (int32_t)f.value; break;
		case 7: pod.priority_class = f.bytes; break;
		case 8: pod.scheduler_name = f.bytes; break;
		case 9: pod.service_account = f.bytes; break;
		case 12: pod.owner_kind = f.bytes; break;
		case 13: pod.owner_name = f.bytes; break;
		case 15: pod.created_ms = (int64_t)f.value; break;
		}
	return pod;
}

// pintle_requested is what the pod asks of a resource, in thousandths of its unit.
PINTLE_UNUSED static int64_t pintle_requested(const pintle_pod *pod, pintle_str resource) {
	pintle_msg_ m = pintle_msg_of_(pod->message_);
	pintle_field_ f;
	while (pintle_next_(&m, &f)) {
		if (f.number != 10) continue;
		pintle_msg_ quantity = pintle_msg_of_(f.bytes);
		pintle_str name = {"", 0};
		int64_t milli = 0;
		while (pintle_next_(&quantity, &f)) {
			if (f.number == 1) name = f.bytes;
			if (f.number == 2) milli = (int64_t)f.value;
		}
		if (pintle_equal(name, resource)) return milli;
	}
	return 0;
}

enum { PINTLE_GONE = 1, PINTLE_UNSCHEDULABLE = 2, PINTLE_NOT_READY = 4 };

// pintle_node is a node's record, where it lies. Strings are ids; 0 is the empty string.
typedef struct {
	uint32_t name, flags;
	int64_t cpu, cpu_requested;         // thousandths of a core
	int64_t memory, memory_requested;   // bytes
	int64_t storage, storage_requested; // ephemeral, bytes
	int64_t gpu, gpu_requested;         // thousandths of a GPU
	uint32_t pods, pods_there;
	uint32_t labels, label_count;       // pairs, sorted by key id
	uint32_t taints, taint_count;       // two pairs each: (key, value), (effect, 0)
	uint32_t quantities, quantity_count;
	uint32_t zone, region, host_name, zero;
	int64_t created_ms;
} pintle_node;

_Static_assert(sizeof(pintle_node) == 128, "the fixed part of a record has 128 bytes");

typedef struct {
	uint32_t key, value;
} pintle_pair;

// pintle_nodes is the table: candidate i is the node pintle_node_at(t, i).
typedef struct {
	uint32_t count; // of candidates
	uint32_t stride;
	const char *records;
	const pintle_pair *pairs;
	const pintle_str *strings; // by id
	const uint32_t *rows;
	uint32_t *verdicts; // by candidate: 0 passes, n is refused for reason n (pintle_reason)
	int32_t *scores;    // by candidate: 0 to 100, best
	uint32_t string_count;
	pintle_buf reasons_;
	uint32_t reason_count_;
} pintle_nodes;

PINTLE_UNUSED static const pintle_node *pintle_node_at(const pintle_nodes *t, uint32_t candidate) {
	return (const pintle_node *)(t->records + t->rows[candidate] * t->stride);
}

// pintle_in_a_row says that the candidates' records follow each other, which is what they do when all nodes are asked about:
// candidate i is at (char *)pintle_node_at(t, 0) + i * t->stride. A loop that knows it is a third quicker.
PINTLE_UNUSED static bool pintle_in_a_row(const pintle_nodes *t) {
	return t->count && t->rows[t->count - 1] - t->rows[0] == t->count - 1;
}

// The column that the policy asked for with its nth pintle_column: a string's id, a number, or a quantity in thousandths.
PINTLE_UNUSED static uint32_t pintle_column_label(const pintle_node *n, uint32_t nth) { return *(const uint32_t *)((const char *)(n + 1) + 8 * nth); }
PINTLE_UNUSED static double pintle_column_number(const pintle_node *n, uint32_t nth) { return *(const double *)((const char *)(n + 1) + 8 * nth); }
PINTLE_UNUSED static int64_t pintle_column_quantity(const pintle_node *n, uint32_t nth) { return *(const int64_t *)((const char *)(n + 1) + 8 * nth); }

// pintle_node_string is the string with an id.
PINTLE_UNUSED static pintle_str pintle_node_string(const pintle_nodes *t, uint32_t id) {
	return id < t->string_count ? t->strings[id] : (pintle_str){"", 0};
}

// pintle_node_label is the id of a label's value, 0 without the label. A column is quicker.
PINTLE_UNUSED static uint32_t pintle_node_label(const pintle_nodes *t, const pintle_node *n, uint32_t key) {
	for (uint32_t i = 0; i < n->label_count; i++)
		if (t->pairs[n->labels + i].key == key) return t->pairs[n->labels + i].value;
	return 0;
}

// pintle_reason says why nodes are refused, worded to follow a count of nodes. It returns the verdict that means it.
PINTLE_UNUSED static uint32_t pintle_reason(pintle_nodes *t, pintle_str reason) {
	pintle_put_bytes_(&t->reasons_, 1, reason);
	return ++t->reason_count_;
}

#define PINTLE_REGIONS_ 9
#define PINTLE_PLACE(function) \
	static struct { char *p; uint32_t size; } pintle_regions_[PINTLE_REGIONS_]; \
	PINTLE_EXPORT(pintle_region) void *pintle_region(uint32_t kind, uint32_t size) { \
		if (kind >= PINTLE_REGIONS_ || size > 0x7fffff00) return 0; \
		uint32_t have = pintle_regions_[kind].size; \
		if (have && size <= have) return pintle_regions_[kind].p; \
		if (size < 2 * (uint64_t)have) size = have < 0x3fffffff ? 2 * have : size; \
		char *p = pintle_heap_((size ? size : 8) + (kind == 1 ? 56 : 0)); \
		if (p && kind == 1) p += (8 - (uintptr_t)p) & 56; /* records: a pair of amounts shares a line of the cache */ \
		if (p) pintle_regions_[kind].p = p, pintle_regions_[kind].size = size; \
		return p; \
	} \
	PINTLE_EXPORT(pintle_place) uint64_t pintle_place(const char *p, uint32_t n) { \
		pintle_pod pod = pintle_pod_of_((pintle_str){p, n}); \
		const uint32_t *h = (const uint32_t *)pintle_regions_[0].p; \
		if (!h) __builtin_trap(); \
		pintle_out_.n = 0; \
		pintle_nodes t = {.count = h[3], .stride = h[1], .records = (const char *)(uintptr_t)h[4], .pairs = (const pintle_pair *)(uintptr_t)h[5], \
			.strings = (const pintle_str *)(uintptr_t)h[6], .rows = (const uint32_t *)(uintptr_t)h[8], .verdicts = (uint32_t *)(uintptr_t)h[9], \
			.scores = (int32_t *)(uintptr_t)h[10], .string_count = h[12], .reasons_ = pintle_out_}; \
		function(&pod, &t); \
		pintle_out_ = t.reasons_; \
		return pintle_return_(); \
	}

#define PINTLE_QUEUE_KEY(function) \
	PINTLE_EXPORT(pintle_queue_key) int64_t pintle_queue_key(const char *p, uint32_t n) { \
		pintle_pod pod = pintle_pod_of_((pintle_str){p, n}); \
		int64_t key = function(&pod); \
		pintle_scratch_.over = true; \
		return key; \
	}

typedef struct {
	pintle_pod pod;
	pintle_str node;
	pintle_str message_;
} pintle_permit_request;

// pintle_waiting_next walks the pods that this policy told to wait. at starts as {0, 0}; false at the end.
PINTLE_UNUSED static bool pintle_waiting_next(const pintle_permit_request *r, pintle_str *at, pintle_pod *pod) {
	pintle_msg_ m = pintle_msg_of_(at->p ? *at : r->message_);
	pintle_field_ f;
	while (pintle_next_(&m, &f)) {
		if (f.number != 3) continue;
		pintle_str message = {"", 0};
		pintle_three_(f.bytes, &message, 0, 0);
		*pod = pintle_pod_of_(message);
		*at = (pintle_str){(const char *)m.p, m.end - m.p};
		return true;
	}
	return false;
}

enum { PINTLE_ALLOW, PINTLE_WAIT, PINTLE_DENY };

typedef struct {
	uint32_t decision;
	int64_t timeout_ms; // of PINTLE_WAIT: the pod is refused after it
	pintle_buf reason;
	pintle_buf uids_;
} pintle_permit_response;

PINTLE_UNUSED static void pintle_permit_allow(pintle_permit_response *r, pintle_str uid) { pintle_put_bytes_(&r->uids_, 4, uid); }
PINTLE_UNUSED static void pintle_permit_reject(pintle_permit_response *r, pintle_str uid) { pintle_put_bytes_(&r->uids_, 5, uid); }

#define PINTLE_PERMIT(function) \
	static pintle_permit_response pintle_permitted_; \
	PINTLE_EXPORT(pintle_permit) uint64_t pintle_permit(const char *p, uint32_t n) { \
		pintle_permit_request request = {.message_ = {p, n}}; \
		pintle_str pod = {"", 0}; \
		pintle_three_(request.message_, &pod, &request.node, 0); \
		request.pod = pintle_pod_of_(pod); \
		pintle_permit_response *r = &pintle_permitted_; \
		*r = (pintle_permit_response){.reason = {r->reason.p, 0, r->reason.size}, .uids_ = {r->uids_.p, 0, r->uids_.size}}; \
		function(&request, r); \
		pintle_out_.n = 0; \
		pintle_put_number_(&pintle_out_, 1, r->decision); \
		pintle_put_number_(&pintle_out_, 2, r->timeout_ms); \
		pintle_put_string_(&pintle_out_, 3, pintle_text(&r->reason)); \
		pintle_add(&pintle_out_, pintle_text(&r->uids_)); \
		return pintle_return_(); \
	}

typedef struct {
	pintle_pod pod;
	pintle_str message_;
} pintle_post_filter_request;

// pintle_refusal_next walks why nodes were refused, most frequent first. at starts as {0, 0}; false at the end.
PINTLE_UNUSED static bool pintle_refusal_next(const pintle_post_filter_request *r, pintle_str *at, pintle_str *reason, uint32_t *nodes) {
	pintle_msg_ m = pintle_msg_of_(at->p ? *at : r->message_);
	pintle_field_ f;
	while (pintle_next_(&m, &f)) {
		if (f.number != 2) continue;
		pintle_msg_ count = pintle_msg_of_(f.bytes);
		*reason = (pintle_str){"", 0}, *nodes = 0;
		while (pintle_next_(&count, &f)) {
			if (f.number == 1) *reason = f.bytes;
			if (f.number == 2) *nodes = f.value;
		}
		*at = (pintle_str){(const char *)m.p, m.end - m.p};
		return true;
	}
	return false;
}

typedef struct {
	pintle_buf message;  // added to the pod's event
	pintle_str nominate; // node to wait for; empty: none
} pintle_post_filter_response;

#define PINTLE_POST_FILTER(function) \
	static pintle_post_filter_response pintle_post_filtered_; \
	PINTLE_EXPORT(pintle_post_filter) uint64_t pintle_post_filter(const char *p, uint32_t n) { \
		pintle_post_filter_request request = {.message_ = {p, n}}; \
		pintle_str pod = {"", 0}; \
		pintle_three_(request.message_, &pod, 0, 0); \
		request.pod = pintle_pod_of_(pod); \
		pintle_post_filter_response *r = &pintle_post_filtered_; \
		*r = (pintle_post_filter_response){.message = {r->message.p, 0, r->message.size}}; \
		function(&request, r); \
		pintle_out_.n = 0; \
		pintle_put_string_(&pintle_out_, 1, pintle_text(&r->message)); \
		pintle_put_string_(&pintle_out_, 2, r->nominate); \
		return pintle_return_(); \
	}

#endif
