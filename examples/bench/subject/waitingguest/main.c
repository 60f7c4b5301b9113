// A WASI command that waits, an hour at a time, for ever. Without libc: what it needs of wasi_snapshot_preview1 stands here.

struct subscription { // of a clock
	unsigned long long userdata;
	unsigned char tag;
	_Alignas(8) unsigned int clock;
	unsigned long long timeout, precision;
	unsigned short flags;
};

_Static_assert(sizeof(struct subscription) == 48, "the layout of wasi_snapshot_preview1");

__attribute__((import_module("wasi_snapshot_preview1"), import_name("poll_oneoff")))
int poll_oneoff(const struct subscription *in, void *out, unsigned int n, unsigned int *happened);

__attribute__((export_name("_start")))
void start(void) {
	struct subscription hour = {.clock = 1, .timeout = 3600000000000ULL};
	unsigned char event[32];
	unsigned int happened;
	for (;;)
		poll_oneoff(&hour, event, 1, &happened);
}
