/*
 * shmrouter_ring.h: send messages from C into a ring that a Go program made in a file (ring.Create) and consumes
 * (Ring.Consume). C11, Linux, 64 bits, gcc or clang; nothing to link. It defines _GNU_SOURCE, so include it before
 * anything else. C++ programs include it in a .c file of their own.
 *
 *     struct shmring r;
 *     int rc = shmring_attach(&r, "/dev/shm/samples");
 *     if (rc == SHMRING_OK)
 *         rc = shmring_send(&r, data, size, 0, 1000); // waits for room, for a second at most
 *     if (rc != SHMRING_OK)
 *         fprintf(stderr, "samples: %s\n", shmring_text(rc));
 *     shmring_close(&r);
 *
 * A message that was sent is delivered, also if this process is killed (SIGKILL) at the next instruction. One that is
 * killed within a send delays the others for some milliseconds, and at most that one message is missing.
 *
 * A struct shmring is for one thread at a time; each thread may attach one, and takes one of the 255 seats by that.
 * Attach after a fork, not before: a child has neither the seat nor the memory, and a send in it is a SIGSEGV. A send
 * must not be left by longjmp or by the thread's cancellation: its claim would stay open, of a living process, and
 * stop everybody. If somebody truncates the file, a send is a SIGBUS. A router's ring is not for this: there the meta
 * values have a meaning.
 *
 * It follows docs/protocol.md, whose words are used here. It is the simplest producer that the protocol allows:
 *
 * - It commits by a CAS. (Go's producers commit by a plain store where they can. That takes a consumer with
 *   membarrier(2), registration with the kernel, and a look at the fence word. The CAS needs none of them: it fails if
 *   the claim was taken away, and is in order with the load of the sleep word behind it.)
 * - Who waits for room naps, and does not announce itself. The consumer owes a wake only to those who do; anybody may
 *   just try again. The price is a nap's delay, of 1 ms at most.
 */
#ifndef SHMROUTER_RING_H
#define SHMROUTER_RING_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef F_OFD_SETLK
#error "include shmrouter_ring.h before other headers, or compile with -D_GNU_SOURCE"
#endif
_Static_assert(sizeof(void *) == 8 && ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2, "a 64-bit processor");

/*
 * The layout. TestCHeader of package ring holds each number to that package's own; offsets and sizes are in bytes.
 */

/* The superblock, which never changes. */
#define SHMRING_MAGIC "SHMRING1"
#define SHMRING_ORDER_MARK 0x01020304
#define SHMRING_VERSION 1
#define SHMRING_OFF_ORDER 8
#define SHMRING_OFF_VERSION 12
#define SHMRING_OFF_SEGMENT_SIZE 16
#define SHMRING_OFF_CAPACITY 24
#define SHMRING_OFF_TABLE 32
#define SHMRING_OFF_DATA 40
#define SHMRING_OFF_USER 48
#define SHMRING_OFF_USER_SIZE 56
#define SHMRING_OFF_GRANULE 88
#define SHMRING_OFF_SLOTS 92
#define SHMRING_OFF_CHECKSUM 96
#define SHMRING_MIN_CAPACITY 65536
#define SHMRING_MAX_CAPACITY 1073741824
#define SHMRING_MAX_USER_SIZE 1099511627776
#define SHMRING_GRANULE 64
#define SHMRING_SLOTS 255
#define SHMRING_PAGE 4096

/* The words that producers and consumer share. */
#define SHMRING_OFF_HINT 4096
#define SHMRING_OFF_TURN 4352
#define SHMRING_OFF_HEAD 8192
#define SHMRING_OFF_SLEEP 8320
#define SHMRING_OFF_FENCE 8328

/* The roster, a seat for each slot. */
#define SHMRING_ROSTER 12288
#define SHMRING_SEAT_SIZE 128
#define SHMRING_SEAT_INSTANCE 0
#define SHMRING_SEAT_PID 4
#define SHMRING_SEAT_START 8
#define SHMRING_SEAT_PIDNS 16
#define SHMRING_SEAT_JOINED 24
#define SHMRING_SEAT_RECORDS 32
#define SHMRING_SEAT_BYTES 40
#define SHMRING_SEAT_DROPPED 48
#define SHMRING_SEAT_SWEPT 56

/* The header table, whose entries are {word, info}. The word, from the low bit up: state, tag, owner, granules. */
#define SHMRING_TABLE 45056
#define SHMRING_ENTRY_SIZE 16
#define SHMRING_ENTRY_INFO 8
#define SHMRING_BUSY 1
#define SHMRING_COMMIT 2
#define SHMRING_SKIP 3
#define SHMRING_STATE_MASK 3
#define SHMRING_TAG_SHIFT 2
#define SHMRING_TAG_BITS 35
#define SHMRING_OWNER_SHIFT 37
#define SHMRING_OWNER_MASK 255
#define SHMRING_OWNER_NONE 255
#define SHMRING_GRANULES_SHIFT 45
#define SHMRING_LENGTH_BITS 25
#define SHMRING_META_BITS 39
#define SHMRING_MAX_FRAME 16777216

/* The sleep word, from the low bit up: mode, episode, position. */
#define SHMRING_MODE_MASK 3
#define SHMRING_MODE_AWAKE 0
#define SHMRING_MODE_IDLE 1
#define SHMRING_EPISODE_SHIFT 2
#define SHMRING_EPISODE_BITS 34
#define SHMRING_SLEEP_POS_SHIFT 36
#define SHMRING_SLEEP_POS_BITS 28

#define SHMRING_LOCK_CONSUMER 255 /* the byte of the file that the consumer locks; a producer's is its slot */
#define SHMRING_TURN_SLOT_MASK 255
#define SHMRING_TURN_COUNT_SHIFT 8
#define SHMRING_HINT_STRIDE 16
#define SHMRING_FENCED_ONCE 2

/* What the functions return. */
enum {
	SHMRING_OK,
	SHMRING_FULL,          /* no room now: try again later, nothing was sent */
	SHMRING_TOO_LARGE,     /* more than shmring_max_frame */
	SHMRING_BAD_META,      /* a meta value of more than 39 bits */
	SHMRING_FENCED,        /* the claim was taken away; the message was not sent. Only damage and its repair do that */
	SHMRING_CORRUPT,       /* the ring's words contradict the protocol: somebody has scribbled on them */
	SHMRING_CLOSED,        /* not attached */
	SHMRING_NOT_A_RING,    /* the file is something else */
	SHMRING_TRUNCATED,     /* the file is shorter than it says, or than any ring */
	SHMRING_UNFINISHED,    /* who makes it has not finished, or died before */
	SHMRING_OTHER_ORDER,   /* made by a host of other byte order */
	SHMRING_OTHER_VERSION, /* of a layout that this header does not know */
	SHMRING_GEOMETRY,      /* the fixed fields contradict each other, or their checksum */
	SHMRING_NO_SEAT,       /* all 255 are taken */
	SHMRING_NO_LOCKS,      /* the file system does not keep locks of open file descriptions apart */
	SHMRING_REPLACED,      /* the path began to name another file meanwhile */
	SHMRING_SYSTEM         /* errno says what */
};

/* shmring_text returns a sentence for a result, or strerror(errno) for SHMRING_SYSTEM. */
static inline const char *shmring_text(int rc)
{
	static const char *const texts[] = {
		"success", "the ring is full", "message too large", "meta value out of range",
		"the claim was taken away before it was committed", "the segment is corrupt", "not attached",
		"not a ring segment", "the segment is truncated", "the segment was never finished",
		"the segment has another byte order", "the segment has another layout version",
		"the segment's geometry is damaged", "all producer slots are taken", "byte locks are not available",
		"the path names another file now"};
	return rc == SHMRING_SYSTEM ? strerror(errno) : rc < 0 || rc > SHMRING_SYSTEM ? "unknown result" : texts[rc];
}

/* struct shmring is a seat among the producers of a ring. Its fields are this header's alone. */
struct shmring {
	unsigned char *base; /* the mapping, of size bytes; NULL: not attached */
	size_t size;
	void *seat;       /* a page of the file that holds the lock */
	size_t page_size; /* of that page */
	int fd;           /* what is mapped, never locked; to ask the kernel who is alive */
	unsigned slot;

	uint64_t granules; /* H, the capacity in granules */
	unsigned lap_bits; /* log2 H */
	uint64_t data;     /* where the data begin */
	uint64_t limit;    /* the largest record, in granules */

	uint64_t pos;    /* behind the last claim of this producer */
	uint64_t seen;   /* head as last loaded; never ahead of it */
	uint64_t hinted; /* where this producer moved the hint to */
	uint64_t rung;   /* the episode of sleep that was ended */
	uint64_t records, bytes;
};

/* Words of the segment. All accesses are sequentially consistent, where it is not said otherwise. */

static inline _Atomic uint64_t *shmring_u64(const struct shmring *r, uint64_t off)
{
	return (_Atomic uint64_t *)(void *)(r->base + off);
}

static inline _Atomic uint32_t *shmring_u32(const struct shmring *r, uint64_t off)
{
	return (_Atomic uint32_t *)(void *)(r->base + off);
}

static inline uint64_t shmring_seat(const struct shmring *r, uint64_t off)
{
	return SHMRING_ROSTER + r->slot * (uint64_t)SHMRING_SEAT_SIZE + off;
}

/* shmring_entry is the offset of T[pos]. Masking keeps any position, whoever wrote it, within the table. */
static inline uint64_t shmring_entry(const struct shmring *r, uint64_t pos)
{
	return SHMRING_TABLE + (pos & (r->granules - 1)) * SHMRING_ENTRY_SIZE;
}

static inline uint64_t shmring_load(const struct shmring *r, uint64_t pos)
{
	return atomic_load(shmring_u64(r, shmring_entry(r, pos)));
}

/* shmring_cas is the only way in which a header word is changed. */
static inline int shmring_cas(const struct shmring *r, uint64_t pos, uint64_t from, uint64_t to)
{
	return atomic_compare_exchange_strong(shmring_u64(r, shmring_entry(r, pos)), &from, to);
}

/* Header words, and positions. */

static inline uint64_t shmring_header(uint64_t state, uint64_t tag, uint64_t owner, uint64_t granules)
{
	return state | tag << SHMRING_TAG_SHIFT | owner << SHMRING_OWNER_SHIFT | granules << SHMRING_GRANULES_SHIFT;
}

static inline uint64_t shmring_with(uint64_t w, uint64_t state) { return (w & ~(uint64_t)SHMRING_STATE_MASK) | state; }
static inline uint64_t shmring_state(uint64_t w) { return w & SHMRING_STATE_MASK; }
static inline uint64_t shmring_owner(uint64_t w) { return w >> SHMRING_OWNER_SHIFT & SHMRING_OWNER_MASK; }
static inline uint64_t shmring_granules(uint64_t w) { return w >> SHMRING_GRANULES_SHIFT; }

static inline uint64_t shmring_bits(unsigned n) { return ((uint64_t)1 << n) - 1; }

/* shmring_tag is the tag of records that start at pos. */
static inline uint64_t shmring_tag(const struct shmring *r, uint64_t pos)
{
	return ((pos >> r->lap_bits) + 1) & shmring_bits(SHMRING_TAG_BITS);
}

/* shmring_age compares the word's tag with a lap's: below 0 older, 0 the same, above 0 newer; modulo 2^35. */
static inline int shmring_age(uint64_t w, uint64_t tag)
{
	uint64_t ahead = ((w >> SHMRING_TAG_SHIFT) - tag) & shmring_bits(SHMRING_TAG_BITS);
	return ahead == 0 ? 0 : ahead >> (SHMRING_TAG_BITS - 1) ? -1 : 1;
}

/* shmring_before compares positions by their signed difference. */
static inline int shmring_before(uint64_t a, uint64_t b) { return (a - b) >> 63 != 0; }

/* shmring_rest is the number of granules from pos to the end of its lap. */
static inline uint64_t shmring_rest(const struct shmring *r, uint64_t pos) { return r->granules - (pos & (r->granules - 1)); }

static inline int shmring_fits_lap(const struct shmring *r, uint64_t pos, uint64_t g)
{
	return g != 0 && g <= shmring_rest(r, pos);
}

/* shmring_steps bounds the walks, whatever stands in the table: two rounds of it, and as many lost races. */
static inline uint64_t shmring_steps(const struct shmring *r) { return 2 * r->granules + 65536; }

/* shmring_max_frame is the longest message in bytes. */
static inline size_t shmring_max_frame(const struct shmring *r) { return r->limit * SHMRING_GRANULE; }

static inline int64_t shmring_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * (int64_t)1000000000 + t.tv_nsec;
}

/*
 * The doorbell. Whoever stores COMMIT or SKIP looks whether the consumer sleeps, and so does whoever finds the ring
 * full. What counts is the word that the sleeper waits at, and not one's own record: in front of that may stand
 * something for which nobody rings again. near is a position of the present. Producers never write the sleep word.
 */
static inline void shmring_ring(struct shmring *r, uint64_t near)
{
	uint64_t s = atomic_load(shmring_u64(r, SHMRING_OFF_SLEEP));
	uint64_t mode = s & SHMRING_MODE_MASK;
	uint64_t episode = s >> SHMRING_EPISODE_SHIFT & shmring_bits(SHMRING_EPISODE_BITS);
	if (mode == SHMRING_MODE_AWAKE || episode == r->rung)
		return;
	uint64_t ahead = ((s >> SHMRING_SLEEP_POS_SHIFT) - near) & shmring_bits(SHMRING_SLEEP_POS_BITS);
	uint64_t pos = near + ahead;
	if (ahead >> (SHMRING_SLEEP_POS_BITS - 1))
		pos -= (uint64_t)1 << SHMRING_SLEEP_POS_BITS;

	uint64_t w = shmring_load(r, pos);
	int age = shmring_age(w, shmring_tag(r, pos));
	if (age < 0 || (age == 0 && shmring_state(w) == SHMRING_BUSY && mode != SHMRING_MODE_IDLE))
		return;
	/* It sleeps on the low half of the word. One on its way into the kernel is not woken yet: the kernel sends it
	 * back, or the next one that rings wakes it. */
	uint64_t half = shmring_entry(r, pos) + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0);
	enum { futex_wake = 1 };
	if (syscall(SYS_futex, r->base + half, futex_wake, 1, NULL, NULL, 0) > 0)
		r->rung = episode;
}

/* Attaching. */

/* shmring_lock_call asks for a write lock on one byte of the file: F_OFD_SETLK takes it, F_OFD_GETLK tells whether
 * another description has it. 1: taken, or held; 0: not; -1: errno. */
static inline int shmring_lock_call(int fd, int call, off_t byte)
{
	struct flock lock;
	memset(&lock, 0, sizeof lock);
	lock.l_type = F_WRLCK;
	lock.l_whence = SEEK_SET;
	lock.l_start = byte;
	lock.l_len = 1;
	int rc;
	do
		rc = fcntl(fd, call, &lock);
	while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return call == F_OFD_SETLK && (errno == EAGAIN || errno == EACCES) ? 0 : -1;
	return call == F_OFD_SETLK || lock.l_type != F_UNLCK;
}

/* shmring_consumer_alive tells whether a process holds the consumer's seat: 1, 0, or -1 with errno. */
static inline int shmring_consumer_alive(const struct shmring *r)
{
	return shmring_lock_call(r->fd, F_OFD_GETLK, SHMRING_LOCK_CONSUMER);
}

static inline uint64_t shmring_field64(const unsigned char *block, size_t off)
{
	uint64_t v;
	memcpy(&v, block + off, sizeof v);
	return v;
}

static inline uint32_t shmring_field32(const unsigned char *block, size_t off)
{
	uint32_t v;
	memcpy(&v, block + off, sizeof v);
	return v;
}

/* shmring_examine reads the superblock of a file of that size, before anything is mapped, and believes nothing that
 * does not follow from something else. */
static inline int shmring_examine(struct shmring *r, uint64_t file_size)
{
	unsigned char b[SHMRING_OFF_CHECKSUM + 8];
	if (file_size < SHMRING_TABLE)
		return SHMRING_TRUNCATED;
	ssize_t n = pread(r->fd, b, sizeof b, 0);
	if (n != (ssize_t)sizeof b)
		return n < 0 ? SHMRING_SYSTEM : SHMRING_TRUNCATED;
	if (shmring_field64(b, 0) == 0)
		return SHMRING_UNFINISHED; /* the magic is written last */
	if (memcmp(b, SHMRING_MAGIC, 8) != 0)
		return SHMRING_NOT_A_RING;
	uint32_t order = shmring_field32(b, SHMRING_OFF_ORDER);
	if (order != SHMRING_ORDER_MARK)
		return order == __builtin_bswap32(SHMRING_ORDER_MARK) ? SHMRING_OTHER_ORDER : SHMRING_GEOMETRY;
	if (shmring_field32(b, SHMRING_OFF_VERSION) != SHMRING_VERSION)
		return SHMRING_OTHER_VERSION;
	uint64_t sum = 14695981039346656037u; /* FNV-1a, of all between magic and checksum */
	for (int i = SHMRING_OFF_ORDER; i < SHMRING_OFF_CHECKSUM; i++)
		sum = (sum ^ b[i]) * 1099511628211u;
	if (shmring_field64(b, SHMRING_OFF_CHECKSUM) != sum)
		return SHMRING_GEOMETRY;

	uint64_t capacity = shmring_field64(b, SHMRING_OFF_CAPACITY);
	uint64_t user_size = shmring_field64(b, SHMRING_OFF_USER_SIZE);
	if (capacity < SHMRING_MIN_CAPACITY || capacity > SHMRING_MAX_CAPACITY || (capacity & (capacity - 1)) != 0)
		return SHMRING_GEOMETRY;
	if (user_size > SHMRING_MAX_USER_SIZE || user_size % SHMRING_PAGE != 0)
		return SHMRING_GEOMETRY;
	r->granules = capacity / SHMRING_GRANULE;
	r->data = SHMRING_TABLE + r->granules * SHMRING_ENTRY_SIZE;
	r->size = r->data + capacity + user_size;
	if (shmring_field64(b, SHMRING_OFF_TABLE) != SHMRING_TABLE || shmring_field64(b, SHMRING_OFF_DATA) != r->data ||
	    shmring_field64(b, SHMRING_OFF_USER) != r->data + capacity ||
	    shmring_field64(b, SHMRING_OFF_SEGMENT_SIZE) != r->size ||
	    shmring_field32(b, SHMRING_OFF_GRANULE) != SHMRING_GRANULE ||
	    shmring_field32(b, SHMRING_OFF_SLOTS) != SHMRING_SLOTS)
		return SHMRING_GEOMETRY;
	if (file_size < r->size)
		return SHMRING_TRUNCATED;
	r->lap_bits = (unsigned)__builtin_ctzll(r->granules);
	r->limit = r->granules / 8;
	if (r->limit > SHMRING_MAX_FRAME / SHMRING_GRANULE)
		r->limit = SHMRING_MAX_FRAME / SHMRING_GRANULE;
	return SHMRING_OK;
}

/*
 * shmring_take_seat locks the byte of a free slot. The lock belongs to an open file description of its own, never to
 * the one that is mapped for data. That description lives on in the mapping of a page without access, and its
 * descriptor is closed: so nobody can close it by mistake, and no child that is forked has it. (A child that had it
 * would keep a dead parent's seat alive.) The kernel frees the lock when this process is gone, however it went.
 */
static inline int shmring_take_seat(struct shmring *r, const char *path, const struct stat *mapped)
{
	struct stat st;
	int rc = SHMRING_NO_SEAT, taken = 0;
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return SHMRING_SYSTEM;
	void *page = mmap(NULL, r->page_size, PROT_NONE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED || madvise(page, r->page_size, MADV_DONTFORK) != 0 || fstat(fd, &st) != 0) {
		rc = SHMRING_SYSTEM;
	} else if (st.st_dev != mapped->st_dev || st.st_ino != mapped->st_ino) {
		rc = SHMRING_REPLACED;
	} else {
		for (r->slot = 0; r->slot < SHMRING_SLOTS && taken == 0; r->slot += taken == 0)
			taken = shmring_lock_call(fd, F_OFD_SETLK, r->slot);
		if (taken < 0)
			rc = SHMRING_SYSTEM;
		else if (taken > 0) /* some file systems accept the call, and do nothing */
			rc = shmring_lock_call(r->fd, F_OFD_GETLK, r->slot) == 1 ? SHMRING_OK : SHMRING_NO_LOCKS;
	}
	int cause = errno;
	close(fd);
	if (rc != SHMRING_OK && page != MAP_FAILED)
		munmap(page, r->page_size);
	if (rc == SHMRING_OK)
		r->seat = page;
	errno = cause;
	return rc;
}

/* shmring_start_time is when this process started, in clock ticks since boot: field 22 of its stat line, 0 without. */
static inline uint64_t shmring_start_time(void)
{
	char line[1024];
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
	if (fd >= 0)
		close(fd);
	line[n > 0 ? n : 0] = 0;
	const char *at = strrchr(line, ')'); /* the end of field 2, the name, which may hold anything */
	for (int field = 2; field < 22 && at != NULL; field++)
		at = strchr(at + 1, ' ');
	return at == NULL ? 0 : strtoull(at, NULL, 10);
}

/*
 * shmring_sweep skips the open claims of a dead predecessor in the slot: since the lock was taken, the consumer takes
 * them for those of a living process. It walks from head to the first free granule; claims are contiguous, so none
 * lies beyond. Who takes a claim away changes the fence word before.
 */
static inline int shmring_sweep(struct shmring *r, uint64_t *swept)
{
	uint64_t pos = atomic_load(shmring_u64(r, SHMRING_OFF_HEAD));
	for (uint64_t steps = shmring_steps(r); steps > 0; steps--) {
		uint64_t w = shmring_load(r, pos);
		int age = shmring_age(w, shmring_tag(r, pos));
		if (age < 0) {
			uint64_t turn = atomic_load(shmring_u64(r, SHMRING_OFF_TURN));
			if ((turn & SHMRING_TURN_SLOT_MASK) == r->slot + 1) /* the predecessor's, too */
				atomic_compare_exchange_strong(shmring_u64(r, SHMRING_OFF_TURN), &turn, 0);
			shmring_ring(r, pos);
			return SHMRING_OK;
		}
		if (age > 0 || !shmring_fits_lap(r, pos, shmring_granules(w))) { /* released meanwhile? */
			uint64_t head = atomic_load(shmring_u64(r, SHMRING_OFF_HEAD));
			if (!shmring_before(pos, head))
				return SHMRING_CORRUPT;
			pos = head;
			continue;
		}
		if (shmring_state(w) == SHMRING_BUSY && shmring_owner(w) == r->slot) {
			atomic_fetch_add(shmring_u32(r, SHMRING_OFF_FENCE), SHMRING_FENCED_ONCE);
			if (!shmring_cas(r, pos, w, shmring_with(w, SHMRING_SKIP)))
				continue; /* the consumer was faster */
			++*swept;
		}
		pos += shmring_granules(w);
	}
	return SHMRING_CORRUPT;
}

/* shmring_join writes this process's name into the seat, and sweeps. The name comes first: if it is stopped in the
 * sweep, what is in the way meanwhile is its doing. And no instance is ever seen with the pid of another. */
static inline int shmring_join(struct shmring *r)
{
	struct stat ns;
	uint64_t swept = 0;
	atomic_store(shmring_u32(r, shmring_seat(r, SHMRING_SEAT_PID)), 0);
	atomic_fetch_add(shmring_u32(r, shmring_seat(r, SHMRING_SEAT_INSTANCE)), 1);
	atomic_store(shmring_u64(r, shmring_seat(r, SHMRING_SEAT_START)), shmring_start_time());
	atomic_store(shmring_u64(r, shmring_seat(r, SHMRING_SEAT_PIDNS)), stat("/proc/self/ns/pid", &ns) == 0 ? ns.st_ino : 0);
	atomic_store(shmring_u32(r, shmring_seat(r, SHMRING_SEAT_PID)), (uint32_t)getpid());
	int rc = shmring_sweep(r, &swept);
	if (rc != SHMRING_OK)
		return rc;
	atomic_fetch_add(shmring_u64(r, shmring_seat(r, SHMRING_SEAT_SWEPT)), swept);
	atomic_store(shmring_u64(r, shmring_seat(r, SHMRING_SEAT_JOINED)), (uint64_t)shmring_now());
	atomic_store(shmring_u64(r, shmring_seat(r, SHMRING_SEAT_RECORDS)), 0);
	atomic_store(shmring_u64(r, shmring_seat(r, SHMRING_SEAT_BYTES)), 0);
	atomic_store(shmring_u64(r, shmring_seat(r, SHMRING_SEAT_DROPPED)), 0);
	return SHMRING_OK;
}

/* shmring_let_go gives everything back; the seat's lock goes with its page. errno stays. */
static inline void shmring_let_go(struct shmring *r)
{
	int cause = errno;
	if (r->page_size == 0)
		return; /* never attached: 0 is no descriptor of it */
	if (r->seat != NULL)
		munmap(r->seat, r->page_size);
	if (r->base != NULL)
		munmap(r->base, r->size);
	if (r->fd >= 0)
		close(r->fd);
	memset(r, 0, sizeof *r);
	errno = cause;
}

/* shmring_attach takes a seat among the producers of the ring in the file at path. Where it fails, nothing in the file
 * was changed, but for a seat's name where the result is SHMRING_CORRUPT. shmring_close may follow in any case. */
static inline int shmring_attach(struct shmring *r, const char *path)
{
	struct stat st;
	memset(r, 0, sizeof *r);
	r->page_size = (size_t)sysconf(_SC_PAGESIZE);
	int rc = SHMRING_SYSTEM;
	r->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (r->fd >= 0 && fstat(r->fd, &st) == 0) {
		rc = S_ISREG(st.st_mode) ? shmring_examine(r, (uint64_t)st.st_size) : SHMRING_NOT_A_RING;
		if (rc == SHMRING_OK) {
			void *base = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
			r->base = base == MAP_FAILED ? NULL : base;
			if (r->base == NULL || madvise(r->base, r->size, MADV_DONTFORK) != 0 ||
			    madvise(r->base, r->size, MADV_DONTDUMP) != 0)
				rc = SHMRING_SYSTEM;
		}
		if (rc == SHMRING_OK)
			rc = shmring_take_seat(r, path, &st);
		if (rc == SHMRING_OK)
			rc = shmring_join(r);
	}
	if (rc != SHMRING_OK)
		shmring_let_go(r);
	return rc;
}

/* shmring_close leaves the ring. What was sent stays there and is delivered. A second close does nothing. */
static inline void shmring_close(struct shmring *r)
{
	if (r->base != NULL)
		atomic_store(shmring_u32(r, shmring_seat(r, SHMRING_SEAT_PID)), 0);
	shmring_let_go(r);
}

/* Sending: claim, fill, commit, ring. */

/* shmring_my_turn is how the turn word names this producer. */
static inline uint64_t shmring_my_turn(const struct shmring *r)
{
	return (r->slot + 1) | (uint64_t)1 << SHMRING_TURN_COUNT_SHIFT;
}

/* shmring_has_room tells whether a claim up to pos+g leaves alone what is not released, and a quarter of the ring
 * besides while another has the turn. The difference is signed: seen may lag by any amount, and never leads. */
static inline int shmring_has_room(const struct shmring *r, uint64_t pos, uint64_t g)
{
	uint64_t room = r->granules;
	uint64_t turn = atomic_load(shmring_u64(r, SHMRING_OFF_TURN));
	if (turn != 0 && turn != shmring_my_turn(r))
		room -= r->granules / 4;
	return (int64_t)(pos + g - r->seen) <= (int64_t)room;
}

/* shmring_move_hint lets others start their search further on. The hint may lag, and go back: who searches starts at
 * the largest of it, its own last position, and head. */
static inline void shmring_move_hint(struct shmring *r, uint64_t pos)
{
	if (shmring_before(pos, r->hinted + SHMRING_HINT_STRIDE))
		return;
	r->hinted = pos;
	atomic_store_explicit(shmring_u64(r, SHMRING_OFF_HINT), pos, memory_order_relaxed);
}

/* shmring_claim takes g granules by one CAS on the header word, from which owner and length can be seen at once. */
static inline int shmring_claim(struct shmring *r, uint64_t g, uint64_t *at, uint64_t *claim)
{
	uint64_t pos = atomic_load_explicit(shmring_u64(r, SHMRING_OFF_HINT), memory_order_relaxed);
	pos = pos < r->pos ? r->pos : pos;
	pos = pos < r->seen ? r->seen : pos;
	if (pos - r->seen > r->granules) { /* head has moved on, or the hint is damaged: then it is left aside */
		r->seen = atomic_load(shmring_u64(r, SHMRING_OFF_HEAD));
		if (pos - r->seen > r->granules)
			pos = r->pos = r->hinted = r->seen;
	}
	for (uint64_t steps = shmring_steps(r); steps > 0; steps--) {
		uint64_t w = shmring_load(r, pos), tag = shmring_tag(r, pos);
		int age = shmring_age(w, tag);
		if (age == 0 && shmring_fits_lap(r, pos, shmring_granules(w))) { /* somebody's record */
			pos += shmring_granules(w);
			shmring_move_hint(r, pos);
			continue;
		}
		if (age >= 0) { /* the ring has gone past */
			r->seen = atomic_load(shmring_u64(r, SHMRING_OFF_HEAD));
			if (!shmring_before(pos, r->seen)) { /* damage; the hint shows the consumer where */
				r->hinted = pos;
				atomic_store_explicit(shmring_u64(r, SHMRING_OFF_HINT), pos, memory_order_relaxed);
				return SHMRING_CORRUPT;
			}
			pos = r->seen;
			continue;
		}
		uint64_t rest = shmring_rest(r, pos), need = g < rest ? g : rest;
		if (!shmring_has_room(r, pos, need)) {
			r->seen = atomic_load(shmring_u64(r, SHMRING_OFF_HEAD));
			if (shmring_before(pos, r->seen)) {
				pos = r->seen;
				continue;
			}
			if (!shmring_has_room(r, pos, need))
				break;
		}
		if (need < g) { /* what does not fit before the lap's end is preceded by a pad, complete at once */
			shmring_cas(r, pos, w, shmring_header(SHMRING_SKIP, tag, SHMRING_OWNER_NONE, need));
			continue; /* over the pad, or what another put there */
		}
		uint64_t mine = shmring_header(SHMRING_BUSY, tag, r->slot, g);
		if (shmring_cas(r, pos, w, mine)) {
			r->pos = pos + g;
			shmring_move_hint(r, r->pos);
			*at = pos;
			*claim = mine;
			return SHMRING_OK;
		}
	}
	shmring_ring(r, r->pos > r->seen ? r->pos : r->seen); /* who died before ringing may have left it asleep */
	return SHMRING_FULL;
}

/* shmring_try_send sends a copy of a message, or nothing: SHMRING_FULL where there is no room now. meta travels beside
 * it, as ring.Frame's Meta. It does not block. */
static inline int shmring_try_send(struct shmring *r, const void *data, size_t size, uint64_t meta)
{
	uint64_t pos, claim;
	if (r->base == NULL)
		return SHMRING_CLOSED;
	if (size > shmring_max_frame(r))
		return SHMRING_TOO_LARGE;
	if (meta >> SHMRING_META_BITS != 0)
		return SHMRING_BAD_META;
	uint64_t g = size == 0 ? 1 : (size + SHMRING_GRANULE - 1) / SHMRING_GRANULE;
	int rc = shmring_claim(r, g, &pos, &claim);
	if (rc != SHMRING_OK)
		return rc;

	atomic_store_explicit(shmring_u64(r, shmring_entry(r, pos) + SHMRING_ENTRY_INFO),
			      (uint64_t)size | meta << SHMRING_LENGTH_BITS, memory_order_relaxed);
	if (size > 0)
		memcpy(r->base + r->data + (pos & (r->granules - 1)) * SHMRING_GRANULE, data, size);

	/* Who sees COMMIT sees the bytes. The load of the sleep word comes after it for everybody, so a consumer that
	 * goes to sleep at this moment sees the word changed, or is seen. */
	int sent = shmring_cas(r, pos, claim, shmring_with(claim, SHMRING_COMMIT));
	shmring_ring(r, r->pos);
	if (!sent)
		return SHMRING_FENCED;
	atomic_store_explicit(shmring_u64(r, shmring_seat(r, SHMRING_SEAT_RECORDS)), ++r->records, memory_order_relaxed);
	atomic_store_explicit(shmring_u64(r, shmring_seat(r, SHMRING_SEAT_BYTES)), r->bytes += size, memory_order_relaxed);
	return SHMRING_OK;
}

/*
 * shmring_send is shmring_try_send again and again, with naps between, until timeout_ms milliseconds have passed;
 * SHMRING_FULL then. A consumer that has died is a ring that stays full: ask shmring_consumer_alive.
 *
 * A large message could starve behind small ones, which take each granule as it comes free. So who has tried for
 * a tenth of a second takes the turn: everybody else leaves a quarter of the ring to it then, which any message fits.
 * A holder that has died is found so by the next who wants it.
 */
static inline int shmring_send(struct shmring *r, const void *data, size_t size, uint64_t meta, int timeout_ms)
{
	const int64_t turn_after = 100000000, longest_nap = 1000000;
	struct timespec nap = {0, 50000};
	int rc = shmring_try_send(r, data, size, meta);
	if (rc != SHMRING_FULL)
		return rc;
	int64_t begun = shmring_now(), end = begun + timeout_ms * (int64_t)1000000;
	_Atomic uint64_t *turn = shmring_u64(r, SHMRING_OFF_TURN);
	uint64_t mine = shmring_my_turn(r);
	for (int64_t now = begun; rc == SHMRING_FULL && now < end; now = shmring_now()) {
		if (now - begun > turn_after) {
			uint64_t holder = atomic_load(turn), slot = holder & SHMRING_TURN_SLOT_MASK;
			if (holder != mine && (slot == 0 || shmring_lock_call(r->fd, F_OFD_GETLK, (off_t)slot - 1) == 0))
				atomic_compare_exchange_strong(turn, &holder, mine); /* nobody's, or of the dead */
		}
		clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
		nap.tv_nsec = 2 * nap.tv_nsec < longest_nap ? 2 * nap.tv_nsec : longest_nap;
		rc = shmring_try_send(r, data, size, meta);
	}
	atomic_compare_exchange_strong(turn, &mine, 0);
	return rc;
}

#endif
