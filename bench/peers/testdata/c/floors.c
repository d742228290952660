/* What the machine allows, with no ring at all:
 *
 *	floors JOB key=value...
 *
 * lines   round trip of two cache lines, one there and one back, no pauses
 * record  records of size bytes with a flag in their own line, copied out by the
 *         consumer: no claim, no length, one producer
 * futex   round trip of two words, each waited for in FUTEX_WAIT
 * unix    round trip of size bytes over a unix stream socket, read and write
 * pipe    the same over two pipes
 *
 * Keys: n, size, cpu of the one that starts, other of the one that answers. */
#include "common.h"

static u64 n;
static u32 size;
static int cpu, other;

typedef struct {
	_Atomic u64 word OWN_LINES;
} line;

static void lines(void) {
	line *ping = shared(4096), *pong = ping + 2;
	u32 *took = shared(n * sizeof *took);
	if (!child(other)) {
		for (u64 i = 1; i <= n; i++) {
			while (load_acquire(&ping->word) != i)
				;
			store_release(&pong->word, i);
		}
		_exit(0);
	}
	pin(cpu);
	u64 t = now();
	for (u64 i = 1; i <= n; i++) {
		u64 start = ticks();
		store_release(&ping->word, i);
		while (load_acquire(&pong->word) != i)
			;
		took[i - 1] = (ticks() - start) / ticks_per_ns;
	}
	t = now() - t;
	join();
	figure("ns", (double)t / n);
	samples(took, n);
}

static void record(void) {
	const u64 capacity = 2 << 20, slots = capacity / size;
	line *control = shared(4096), *consumed = control, *gate = control + 2;
	u8 *data = shared(capacity), *b = aligned_alloc(64, (size + 63) & ~63u);
	memset(b, 7, size);
	if (!child(other)) {
		barrier(&gate->word, 2);
		for (u64 c = 0; c < n; c++) {
			u8 *r = data + c % slots * size;
			while (load_acquire((_Atomic u64 *)r) != c + 1)
				;
			memcpy(b, r + 8, size - 8);
			__asm__ volatile("" ::: "memory");
			if ((c & (slots / 8 - 1)) == slots / 8 - 1)
				store_release(&consumed->word, c + 1);
		}
		_exit(0);
	}
	pin(cpu);
	barrier(&gate->word, 2);
	u64 t = now(), seen = 0;
	for (u64 i = 0; i < n; i++) {
		while (i - seen >= slots)
			seen = load_acquire(&consumed->word);
		u8 *r = data + i % slots * size;
		memcpy(r + 8, b, size - 8);
		store_release((_Atomic u64 *)r, i + 1);
	}
	join();
	t = now() - t;
	figure("ns", (double)t / n);
}

static void await(_Atomic u32 *word, u32 value) {
	u32 seen;
	while ((seen = load_acquire(word)) != value)
		futex(word, FUTEX_WAIT, seen);
}

static void tell(_Atomic u32 *word, u32 value) {
	store_release(word, value);
	futex(word, FUTEX_WAKE, 1);
}

static void futexes(void) {
	line *both = shared(4096);
	_Atomic u32 *ping = (void *)&both[0], *pong = (void *)&both[2];
	u32 *took = shared(n * sizeof *took);
	if (!child(other)) {
		for (u32 i = 1; i <= n; i++) {
			await(ping, i);
			tell(pong, i);
		}
		_exit(0);
	}
	pin(cpu);
	u64 t = now();
	for (u32 i = 1; i <= n; i++) {
		u64 start = ticks();
		tell(ping, i);
		await(pong, i);
		took[i - 1] = (ticks() - start) / ticks_per_ns;
	}
	t = now() - t;
	join();
	figure("ns", (double)t / n);
	samples(took, n);
}

static void get(int fd, u8 *b) {
	for (u32 have = 0; have < size;) {
		ssize_t k = read(fd, b + have, size - have);
		if (k <= 0)
			die("read");
		have += k;
	}
}

static void descriptors(int there[2], int back[2]) {
	u32 *took = shared(n * sizeof *took);
	u8 *b = calloc(1, size);
	if (!child(other)) {
		for (u64 i = 0; i < n; i++) {
			get(there[0], b);
			if (write(back[1], b, size) != size)
				die("write");
		}
		_exit(0);
	}
	pin(cpu);
	u64 t = now();
	for (u64 i = 0; i < n; i++) {
		u64 start = ticks();
		*(u64 *)b = i;
		if (write(there[1], b, size) != size)
			die("write");
		get(back[0], b);
		if (*(u64 *)b != i)
			exit(3);
		took[i] = (ticks() - start) / ticks_per_ns;
	}
	t = now() - t;
	join();
	figure("ns", (double)t / n);
	samples(took, n);
}

int main(int argc, char **argv) {
	const char *job = argc > 1 ? argv[1] : "";
	n = number(argv, "n", 100000), size = number(argv, "size", 64);
	cpu = number(argv, "cpu", 0), other = number(argv, "other", 1);
	int a[2], b[2];
	if (!strcmp(job, "lines"))
		lines();
	else if (!strcmp(job, "record"))
		record();
	else if (!strcmp(job, "futex"))
		futexes();
	else if (!strcmp(job, "unix")) {
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, a))
			die("socketpair");
		descriptors((int[]){a[1], a[0]}, (int[]){a[0], a[1]});
	} else if (!strcmp(job, "pipe")) {
		if (pipe(a) || pipe(b))
			die("pipe");
		descriptors(a, b);
	} else
		return fprintf(stderr, "floors: no such job: %s\n", job), 2;
	figures_end();
	return 0;
}
