/* Measures one of the rings in ring.h between processes:
 *
 *	rings JOB key=value...
 *
 * stream  producers to a consumer at full speed; gather=1: both pause about 5 µs
 *         when the ring is full or empty; gather=N: N pause instructions
 * trip    a message there and an answer back; sleep=1: both sides sleep between
 * claims  two producers on two processors, and nobody reads
 * burst   the cost of a send in bursts of 32, while the consumer drains
 *
 * Keys: n messages, size of one, producers, cpu of producers, other of the
 * consumer, capacity in bytes, verify=1 to write and compare all content,
 * garble=1 to change one message on its way, which verify must notice. */
#include "common.h"
#include "ring.h"

static u64 n, producers, capacity;
static u32 size;
static int cpu, other, verify, gather, sleeping, garble;
static _Atomic u64 *gate;

#define NUMBER_BITS 48

/* Content that follows from the first eight bytes of a message: written and
 * compared only in runs of their own. */
static inline u64 content_step(u64 x) { return x * 6364136223846793005ull + 1442695040888963407ull; }

static void content_fill(u8 *b, u32 size) {
	u64 x;
	memcpy(&x, b, 8);
	for (u32 i = 8; i + 8 <= size; i += 8)
		x = content_step(x), memcpy(b + i, &x, 8);
}

static int content_intact(const u8 *b, u32 size) {
	u64 x;
	memcpy(&x, b, 8);
	for (u32 i = 8; i + 8 <= size; i += 8) {
		x = content_step(x);
		if (memcmp(b + i, &x, 8))
			return 0;
	}
	return 1;
}

typedef struct {
	u64 next[256], got, bad;
} books;

ALWAYS_INLINE void check(void *context, const u8 *payload, u32 len) {
	books *b = context;
	u64 w = *(const u64 *)payload, from = w >> NUMBER_BITS;
	if (from >= producers || (w & ((1ull << NUMBER_BITS) - 1)) != b->next[from & 255]++ || len != size ||
	    (verify && !content_intact(payload, len)))
		b->bad++;
}

static void done(books *b) {
	if (b->bad) {
		fprintf(stderr, "%llu wrong messages\n", (unsigned long long)b->bad);
		exit(1);
	}
}

ALWAYS_INLINE void put(u8 *b, u64 from, u64 i) {
	*(u64 *)b = from << NUMBER_BITS | i;
	if (verify)
		content_fill(b, size);
	if (garble && i == n / 2)
		b[size - 1] ^= 1;
}

/* Who waits on a processor that others need gives it up now and then. */
ALWAYS_INLINE void relax(int *k, int crowd, int gap) {
	if (crowd && ++*k > 200) {
		sched_yield();
		*k = 0;
		return;
	}
	for (int i = 0; i < gap; i++)
		pause_once();
}

/* touch makes all pages this process's own before the clock starts. */
static void touch(ring *r) {
	for (u64 i = 0; i < r->capacity; i += 4096) {
		volatile u8 *p = r->data + i;
		*p = *p;
	}
}

static u64 share(u64 n, u64 p) { return n / producers + (p < n % producers); }

/* The first messages, of about one lap, are not timed. */
static void stream(void) {
	ring r = ring_new(capacity);
	u64 warm = capacity / ring_record(size), all = warm + n, t = 0;
	int crowd = producers > 1, gap = gather == 1 ? pauses_in_5us : gather ? gather : 1, k = 0;
	u32 limit = gather ? 1024 : 64;
	for (u64 p = 0; p < producers; p++)
		if (!child(cpu)) {
			u8 *b = aligned_alloc(64, (size + 127) & ~63u);
			memset(b, p, size);
			touch(&r);
			barrier(gate, producers + 1);
			for (u64 i = 0; i < share(all, p); i++) {
				put(b, p, i);
				while (!ring_write(&r, b, size))
					relax(&k, crowd, gap);
			}
			_exit(0);
		}
	pin(other);
	static books bk;
	touch(&r);
	barrier(gate, producers + 1);
	while (bk.got < all) {
		u32 m = ring_read(&r, t || warm - bk.got > limit ? limit : (u32)(warm - bk.got), check, &bk);
		bk.got += m;
		if (!m)
			relax(&k, crowd, gap);
		else if (bk.got == warm)
			t = now();
	}
	t = now() - t;
	join();
	done(&bk);
	figure("ns", (double)t / n);
}

typedef struct {
	ring *back;
	u8 *copy;
	books bk;
} answerer;

ALWAYS_INLINE void answer(void *context, const u8 *payload, u32 len) {
	answerer *a = context;
	check(&a->bk, payload, len);
	memcpy(a->copy, payload, len);
	if (sleeping)
		ring_send(a->back, a->copy, len);
	else
		while (!ring_write(a->back, a->copy, len))
			;
}

static void trip(void) {
	ring there = ring_new(capacity), back = ring_new(capacity);
	u32 *took = shared(n * sizeof *took);
	u8 *b = aligned_alloc(64, (size + 127) & ~63u);
	memset(b, 0, size);
	producers = 1;
	if (!child(other)) {
		static answerer a;
		a.back = &back, a.copy = b;
		barrier(gate, 2);
		for (u64 got = 0; got < n;)
			if (sleeping)
				ring_await(&there, answer, &a), got++;
			else
				got += ring_read(&there, 64, answer, &a);
		done(&a.bk);
		_exit(0);
	}
	pin(cpu);
	static books bk;
	barrier(gate, 2);
	u64 t = now();
	for (u64 i = 0; i < n; i++) {
		u64 start = ticks();
		put(b, 0, i);
		if (sleeping) {
			ring_send(&there, b, size);
			ring_await(&back, check, &bk);
		} else {
			while (!ring_write(&there, b, size))
				;
			while (!ring_read(&back, 1, check, &bk))
				;
		}
		took[i] = (ticks() - start) / ticks_per_ns;
	}
	t = now() - t;
	join();
	done(&bk);
	figure("ns", (double)t / n);
	samples(took, n);
}

/* The ring is large enough for all; what was claimed is read at the end. */
static void claims(void) {
	u64 room = 1 << 16;
	while (room < 2 * n * ring_record(size))
		room *= 2;
	ring r = ring_new(room);
	double *took = shared(4096);
	for (u64 p = 0; p < producers; p++)
		if (!child(p % 2 ? other : cpu)) {
			u8 *b = aligned_alloc(64, (size + 127) & ~63u);
			memset(b, p, size);
			touch(&r);
			barrier(gate, producers);
			u64 t = now();
			for (u64 i = 0; i < share(n, p); i++) {
				put(b, p, i);
				if (!ring_write(&r, b, size))
					_exit(2);
			}
			took[p] = (double)(now() - t) / share(n, p);
			_exit(0);
		}
	join();
	static books bk;
	while (bk.got < n) {
		u32 m = ring_read(&r, 1024, check, &bk);
		if (!m)
			exit(3);
		bk.got += m;
	}
	done(&bk);
	double sum = 0;
	for (u64 p = 0; p < producers; p++)
		sum += took[p];
	figure("ns", sum / producers);
}

#define BURST 32

static void burst(void) {
	ring r = ring_new(capacity);
	u64 bursts = n / BURST;
	u32 *took = shared(bursts * sizeof *took);
	u8 *b = aligned_alloc(64, (size + 127) & ~63u);
	memset(b, 0, size);
	producers = 1;
	if (!child(other)) {
		static books bk;
		touch(&r);
		barrier(gate, 2);
		while (bk.got < bursts * BURST)
			bk.got += ring_read(&r, 64, check, &bk);
		done(&bk);
		_exit(0);
	}
	pin(cpu);
	touch(&r);
	barrier(gate, 2);
	for (u64 i = 0; i < bursts; i++) {
		u64 start = ticks();
		for (u64 k = 0; k < BURST; k++) {
			put(b, 0, i * BURST + k);
			while (!ring_write(&r, b, size))
				pause_once();
		}
		took[i] = (ticks() - start) / ticks_per_ns * 100 / BURST;
		while (atomic_load(&r.control->head) != atomic_load(&r.control->tail))
			pause_once();
	}
	join();
	qsort(took, bursts, sizeof *took, compare);
	figure("ns", took[bursts / 2] / 100.);
}

int main(int argc, char **argv) {
	const char *job = argc > 1 ? argv[1] : "";
	n = number(argv, "n", 1000000), size = number(argv, "size", 64), producers = number(argv, "producers", 1);
	capacity = number(argv, "capacity", 2 << 20);
	cpu = number(argv, "cpu", 0), other = number(argv, "other", 1);
	verify = number(argv, "verify", 0), gather = number(argv, "gather", 0), sleeping = number(argv, "sleep", 0);
	garble = number(argv, "garble", 0);
	gate = shared(4096);
#if RING_SLOTS
	if (size > SLOT - SLOT_PAYLOAD) {
		fprintf(stderr, "a slot holds %u bytes\n", SLOT - SLOT_PAYLOAD);
		return 2;
	}
#endif
	if (!strcmp(job, "stream"))
		stream();
	else if (!strcmp(job, "trip"))
		trip();
	else if (!strcmp(job, "claims"))
		claims();
	else if (!strcmp(job, "burst"))
		burst();
	else
		return fprintf(stderr, "rings: no such job: %s\n", job), 2;
	figures_end();
	return 0;
}
